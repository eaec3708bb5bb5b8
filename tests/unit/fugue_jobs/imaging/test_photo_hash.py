"""A photo's perceptual hash: equal for all decoders, near for the same photo in other bytes, far for another photo."""

import random
from collections.abc import Sequence
from io import BytesIO

import pytest
from PIL import Image, ImageDraw

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.core.phash import CELLS, LETTERS, UNKNOWN
from fugue_jobs.imaging.decode import open_photo
from fugue_jobs.imaging.photo_hash import PhotoHash
from fugue_jobs.imaging.pixels import cut
from fugue_jobs.work import Box, ImageWork
from tests.photos import drawn, encoded, with_orientation
from tests.unit.fugue_jobs.imaging.cutting import work_for

SHELF = [
    Box(f"b{row}{column}", 0.05 + column * 0.15, 0.06 + row * 0.3, 0.19 + column * 0.15, 0.3 + row * 0.3)
    for row in range(3)
    for column in range(6)
]


def hash_of(data: bytes, boxes: Sequence[Box] = SHELF, *profiles: Profile, work: ImageWork | None = None) -> str | None:
    limits = PictureLimits()
    work = work or work_for(*boxes, profiles=profiles or (Profile(),))
    photo, photo_hash = open_photo(data, limits), PhotoHash(work)
    for piece in cut(photo, work, limits, lambda: None):
        photo_hash.add(piece.outcome, piece.sample, photo.upright_size)
    return photo_hash.hash()


def apart(one: str | None, other: str | None) -> float:
    """Return the distance as phash.py defines it, without the product's comparison."""
    assert one is not None
    assert other is not None
    known = [LETTERS.index(a) - LETTERS.index(b) for a, b in zip(one, other, strict=True) if UNKNOWN not in (a, b)]
    return 4 * (sum(step**2 for step in known) / len(known)) ** 0.5


PHOTO = drawn(1200, 900)


@pytest.mark.parametrize(("quality", "width"), [(75, 1200), (90, 900), (85, 600), (60, 300)])
def test_a_reencoded_or_scaled_photo_has_nearly_the_same_hash(quality: int, width: int) -> None:
    again = PHOTO.resize((width, width * 3 // 4), Image.Resampling.LANCZOS)
    near = apart(hash_of(encoded(PHOTO, quality=92)), hash_of(encoded(again, quality=quality)))
    assert near <= 4.8
    assert apart(hash_of(encoded(PHOTO)), hash_of(encoded(drawn(1200, 900, seed=2)))) > 20


def test_a_product_that_is_gone_is_seen() -> None:
    emptied = PHOTO.copy()
    ImageDraw.Draw(emptied).rectangle((60, 54, 228, 270), (20, 20, 20))
    assert apart(hash_of(encoded(PHOTO)), hash_of(encoded(emptied))) > 4.8


def test_a_cell_is_the_mean_of_what_boxes_cover_of_it() -> None:
    picture = Image.new("L", (1600, 1600))
    for column in range(CELLS):
        picture.paste(column * 16 + 8, (column * 100, 0, column * 100 + 100, 1600))
    # The upper half, and a quarter of the next row of cells.
    found = hash_of(encoded(picture.convert("RGB"), "PNG"), [Box("a", 0, 0, 1, 0.5 + 0.25 / CELLS)])
    row = "".join(LETTERS[(column * 16 + 8) // 4] for column in range(CELLS))
    assert found == row * (CELLS // 2) + UNKNOWN * CELLS * (CELLS // 2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_hash_is_of_the_upright_photo(orientation: int) -> None:
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = PHOTO.transpose(turned[orientation]) if orientation in turned else PHOTO
    upright, sideways = (
        hash_of(encoded(picture, "PNG", exif=with_orientation(how)))
        for picture, how in ((PHOTO, 1), (stored, orientation))
    )
    assert upright == sideways


def test_bands_and_the_whole_photo_give_one_hash() -> None:
    pytest.importorskip("cropline_regions")
    bands = encoded(PHOTO, quality=90)
    # Other formats than JPEG are decoded whole.
    whole = encoded(Image.open(BytesIO(bands)), "PNG")
    photos = [open_photo(data, PictureLimits()) for data in (bands, whole)]
    assert hash_of(bands, SHELF[:3]) == hash_of(whole, SHELF[:3]) is not None
    for photo in photos:
        list(cut(photo, work_for(*SHELF[:3]), PictureLimits(), lambda: None))
    assert [photo.decoder for photo in photos] == ["regions", "pillow"]


def test_the_hash_is_of_the_first_profile_that_cuts_all_boxes() -> None:
    data = encoded(PHOTO)
    both = work_for(*SHELF, profiles=(Profile(max_side=40), Profile(padding=0.2)))
    second = work_for(*SHELF, profiles=(Profile(padding=0.2),))
    assert hash_of(data, work=both) == hash_of(data, SHELF, Profile(max_side=40))
    partly = both._replace(orders=(both.orders[0]._replace(only=frozenset({1})), both.orders[1]))
    assert hash_of(data, work=partly) == hash_of(data, work=second)
    nothing = both._replace(orders=tuple(order._replace(only=frozenset({1})) for order in both.orders))
    assert hash_of(data, work=nothing) is None


def test_without_a_crop_there_is_no_hash() -> None:
    assert hash_of(encoded(PHOTO), [Box("gone", 2, 2, 3, 3)]) is None
    assert hash_of(encoded(PHOTO), SHELF, Profile(min_side=5000)) is None


def test_boxes_of_any_size_and_place_make_a_hash_of_one_length() -> None:
    chance = random.Random(7)
    for _ in range(200):
        boxes = []
        for number in range(chance.randrange(1, 6)):
            x, y, side = chance.random(), chance.random(), chance.choice([0.0005, 0.01, 0.4, 3.0])
            boxes.append(Box(f"b{number}", x - side / 2, y - side / 2, x + side / 2, y + side / 2))
        found = hash_of(encoded(drawn(64, 48)), boxes)
        assert found is None or (len(found) == CELLS**2 and set(found) <= {*LETTERS, UNKNOWN})

"""Lossless crops have the photo's own pixels, say where their box is, and carry nothing else of the photo.

Pillow's decode of the whole photo is the oracle.
"""

from __future__ import annotations

import io
import math
import subprocess
import sys
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms, ImageOps, ImageStat
from pydantic import ValidationError

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.decode import open_photo
from fugue_jobs.imaging.pixels import Cut, cut
from fugue_jobs.work import Box
from tests.photos import drawn, encoded, with_orientation
from tests.unit.fugue_jobs.damaging import damaged
from tests.unit.fugue_jobs.imaging.cutting import cuts, work_for
from tests.unit.fugue_jobs.imaging.test_photo_hash import SHELF, apart, hash_of
from tests.unit.fugue_jobs.imaging.test_pixels_metadata import CANARY, XMP
from tests.unit.fugue_jobs.imaging.test_pixels_metadata import exif as telling_exif

pytestmark = pytest.mark.skipif(
    not hasattr(getattr(pytest.importorskip("cropline_regions"), "Pieces", None), "edges"),
    reason="cropline-regions is of an earlier version",
)

LOSSLESS = Profile(lossless=True)
UPRIGHT = Profile(lossless=True, lossless_upright=True)
BOXES = [Box("a", 0.1, 0.2, 0.43, 0.61), Box("b", 0.0, 0.0, 1.0, 1.0), Box("c", 0.7001, 0.3333, 0.75, 0.9999)]
EDGE = 2  # px at an edge whose chroma is interpolated without its neighbours
# 1 px wider than whole MCUs of 16 px, and lower: its last ones are partial.
PHOTO = drawn(337, 222)


def shown(data: bytes | None) -> Image.Image:
    """Return a crop as viewers show it: turned by its tag."""
    assert data is not None
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image.load()
    return image


def place(piece: Cut) -> tuple[int, int, int, int]:
    """Return where the crop is in the upright photo, by its row."""
    row = piece.outcome
    assert row.left is not None
    assert row.top is not None
    assert row.box_left is not None
    assert row.box_top is not None
    left, top = row.left - row.box_left, row.top - row.box_top
    assert row.width is not None
    assert row.height is not None
    return left, top, left + row.width, top + row.height


def assert_the_photos_pixels(piece: Cut, photo: bytes, *, off: float = 0) -> None:
    """Compare a crop with Pillow's whole decode, but for the pixels at its edges. ``off``: mean error, levels."""
    found = shown(piece.data)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(photo))).crop(place(piece))
    assert (found.mode, found.size) == (wanted.mode, wanted.size)
    inner = (EDGE, EDGE, found.width - EDGE, found.height - EDGE)
    difference = ImageChops.difference(found.crop(inner), wanted.crop(inner))
    assert max(ImageStat.Stat(difference).rms) <= off


def asked(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    edges: list[Any] = [box.xmin, box.ymin, box.xmax, box.ymax]
    found = [math.floor(edge * side + 0.5) for edge, side in zip(edges, (width, height) * 2, strict=True)]
    return found[0], found[1], found[2], found[3]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_has_the_photos_pixels_and_its_tag(orientation: int, mode: str) -> None:
    photo = encoded(PHOTO.convert(mode), exif=with_orientation(orientation), quality=92, subsampling=orientation % 3)
    width, height = ImageOps.exif_transpose(Image.open(io.BytesIO(photo))).size
    for piece, box in zip(cuts(photo, work_for(*BOXES, profiles=(LOSSLESS,))), BOXES, strict=True):
        row = piece.outcome
        assert (row.status, row.flags, row.format) == ("written", None, "jpeg")
        assert (row.left, row.top, row.right, row.bottom) == asked(box, width, height)
        assert_the_photos_pixels(piece, photo)
        tags = dict(Image.open(io.BytesIO(piece.data or b"")).getexif())
        assert tags == ({} if orientation == 1 else {0x0112: orientation})


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_is_turned_by_its_blocks_where_whole_mcus_allow(orientation: int, subsampling: int) -> None:
    photo = encoded(PHOTO, exif=with_orientation(orientation), quality=92, subsampling=subsampling)
    flags = []
    for piece in sorted(cuts(photo, work_for(*BOXES, profiles=(UPRIGHT,))), key=lambda piece: piece.outcome[:2]):
        assert not Image.open(io.BytesIO(piece.data or b"")).getexif()
        flags.append(piece.outcome.flags)
        if piece.outcome.flags is None:
            # Turned blocks are rounded in another order.
            assert_the_photos_pixels(piece, photo, off=0 if orientation == 1 else 1)
            assert piece.outcome.right == place(piece)[2]
            assert piece.outcome.bottom == place(piece)[3]
    # The whole photo ends within an MCU: where that edge becomes the left or upper one, it is decoded.
    assert flags[0] is None
    assert flags[1] == (None if orientation in (1, 5) else "reencoded")


def test_left_and_top_edges_move_out_to_whole_mcus_and_the_others_stay() -> None:
    photo = encoded(PHOTO, quality=92)
    piece = cuts(photo, work_for(BOXES[0], profiles=(LOSSLESS,)))[0]
    row = piece.outcome
    assert (row.left, row.top, row.right, row.bottom) == (34, 44, 145, 135)
    assert (row.box_left, row.box_top, row.width, row.height) == (2, 12, 145 - 32, 135 - 32)
    assert shown(piece.data).size == (row.width, row.height)


def test_padding_and_min_side_are_those_of_any_profile() -> None:
    photo = encoded(PHOTO, quality=92)
    padded = Profile(lossless=True, padding=0.2)
    for mine, other in zip(
        cuts(photo, work_for(*BOXES, profiles=(padded,))),
        cuts(photo, work_for(*BOXES, profiles=(Profile(padding=0.2),))),
        strict=True,
    ):
        names = ("left", "top", "right", "bottom", "flags", "status")
        assert [getattr(mine.outcome, name) for name in names] == [getattr(other.outcome, name) for name in names]
    small = cuts(photo, work_for(*BOXES, profiles=(Profile(lossless=True, min_side=60),)))
    assert [piece.outcome.reason for piece in small] == [None, None, "below_min_side"]
    outside = cuts(photo, work_for(Box("o", 2, 2, 3, 3), BOXES[0], profiles=(LOSSLESS,)))
    assert [piece.outcome.reason for piece in outside] == ["box_outside", None]


def test_nothing_of_the_photos_metadata_is_in_a_crop() -> None:
    photo = encoded(PHOTO, exif=telling_exif(), xmp=XMP, comment=CANARY, dpi=(301, 301))
    assert CANARY in photo
    for piece in cuts(photo, work_for(*BOXES, profiles=(LOSSLESS, UPRIGHT))):
        assert piece.data is not None
        assert CANARY not in piece.data
        image = Image.open(io.BytesIO(piece.data))
        assert not image.info.keys() - {"jfif", "jfif_version", "jfif_unit", "jfif_density", "exif"}
        assert not image.getexif().keys() - {0x0112}


def swapped_profile() -> bytes:
    """Return an ICC profile in which red and blue are swapped, so that converting shows."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, blue = srgb.index(b"rXYZ"), srgb.index(b"bXYZ")
    return srgb[:red] + b"bXYZ" + srgb[red + 4 : blue] + b"rXYZ" + srgb[blue + 4 :]


def test_an_icc_profile_is_kept_or_the_crop_is_converted_and_says_so() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # More than one segment holds.
    other = swapped_profile() + bytes(70_000)
    keeping = Profile(lossless=True, colour="keep_icc")
    for icc, profile, flag, kept in (
        (other, keeping, None, other),
        (srgb, keeping, None, srgb),
        (srgb, LOSSLESS, None, None),
        (other, LOSSLESS, "reencoded", None),
        (b"broken" * 30, LOSSLESS, "icc_ignored", None),
        (b"broken" * 30, keeping, "icc_ignored", None),
    ):
        photo = encoded(PHOTO, quality=92, icc_profile=icc)
        piece = cuts(photo, work_for(BOXES[0], profiles=(profile,)))[0]
        assert piece.outcome.flags == flag
        assert shown(piece.data).info.get("icc_profile") == kept
        if flag != "reencoded":
            assert_the_photos_pixels(piece, photo)


@pytest.mark.parametrize(
    ("photo", "decoder"),
    [
        (encoded(PHOTO, progressive=True), "pillow: progressive"),
        (encoded(PHOTO.convert("CMYK")), "pillow: colour_space"),
        (encoded(PHOTO, "PNG"), "pillow"),
        (encoded(PHOTO, "WEBP"), "pillow"),
        (damaged(encoded(PHOTO, quality=92), "cut off", 0.9), "pillow: damaged"),
    ],
    ids=["progressive", "CMYK", "PNG", "WEBP", "damaged"],
)
def test_what_has_no_bits_to_cut_is_encoded_as_by_default_with_a_flag(photo: bytes, decoder: str) -> None:
    limits = PictureLimits()
    opened = open_photo(photo, limits)
    found = list(cut(opened, work_for(BOXES[0], profiles=(LOSSLESS,)), limits, lambda: None))
    default = cuts(photo, work_for(BOXES[0], profiles=(Profile(),)))
    assert opened.decoder == decoder
    assert found[0].data == default[0].data
    notes = default[0].outcome.flags
    assert found[0].outcome == default[0].outcome._replace(flags=f"{notes},reencoded" if notes else "reencoded")


def test_damage_inside_a_box_fails_it() -> None:
    photo = damaged(encoded(PHOTO, quality=92), "cut off", 0.3)
    found = cuts(photo, work_for(BOXES[0], profiles=(LOSSLESS,)))
    assert found[0].outcome.reason == "damaged_pixels"


def test_other_profiles_get_what_they_get_alone() -> None:
    photo = encoded(PHOTO, exif=with_orientation(6), quality=92)
    profiles = (LOSSLESS, Profile(), UPRIGHT, Profile(format="png", max_side=60))
    together = cuts(photo, work_for(*BOXES, profiles=profiles))
    for number, profile in enumerate(profiles):
        alone = cuts(photo, work_for(*BOXES, profiles=(profile,)))
        own = sorted(
            (piece for piece in together if piece.outcome.order == number), key=lambda piece: piece.outcome[:2]
        )
        assert [piece.data for piece in own] == [piece.data for piece in sorted(alone, key=lambda p: p.outcome[:2])]


def test_only_the_wanted_boxes_of_an_order_are_cut() -> None:
    photo = encoded(PHOTO, quality=92)
    work = work_for(*BOXES, profiles=(LOSSLESS, UPRIGHT))
    work = work._replace(
        orders=(work.orders[0]._replace(only=frozenset([2])), work.orders[1]._replace(only=frozenset()))
    )
    assert [piece.outcome[:2] for piece in cuts(photo, work)] == [(0, 2)]


def test_measures_are_near_those_of_decoded_crops() -> None:
    picture = drawn(2400, 1800)
    photo = encoded(picture, quality=92, exif=with_orientation(3))
    for piece in cuts(photo, work_for(*SHELF, profiles=(LOSSLESS,))):
        crop = shown(piece.data).convert("L")
        assert piece.outcome.luminance == pytest.approx(ImageStat.Stat(crop).mean[0], abs=2.5)
        middle = (crop.width // 2 - 20, crop.height // 2 - 20, crop.width // 2 + 20, crop.height // 2 + 20)
        assert piece.outcome.sharpness == pytest.approx(laplacian(crop.crop(middle)), rel=0.35, abs=30)
    mine = hash_of(photo, SHELF, LOSSLESS)
    assert apart(mine, hash_of(photo, SHELF, Profile())) <= 6
    again = encoded(picture.resize((1800, 1350)), quality=80, exif=with_orientation(3))
    assert apart(mine, hash_of(again, SHELF, LOSSLESS)) <= 4.8
    assert apart(mine, hash_of(encoded(drawn(1200, 900, seed=2)), SHELF, LOSSLESS)) > 20


def laplacian(grey: Image.Image) -> float:
    at = grey.load()
    assert at is not None
    squares = [
        min(127, max(-128, sum(map(int, (at[x - 1, y], at[x + 1, y], at[x, y - 1], at[x, y + 1]))) - 4 * int(at[x, y])))  # type: ignore[arg-type]
        ** 2
        for x in range(1, grey.width - 1)
        for y in range(1, grey.height - 1)
    ]
    return sum(squares) / len(squares)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_side": 64}, "max_side"),
        ({"quality": 80}, "quality"),
        ({"matte": "#000000"}, "matte"),
        ({"subsampling": "4:4:4", "effort": 1}, "subsampling, effort"),
        ({"steps": ["json:dumps"]}, "steps"),
    ],
)
def test_what_a_copy_cannot_have_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=f"a lossless jpeg copies the photo's bits: leave out {told}"):
        Profile(lossless=True, **fields)


@pytest.mark.parametrize("fields", [{"max_side": 64}, {"quality": 40}, {"subsampling": "4:4:4"}])
def test_work_queued_when_lossless_meant_nothing_for_jpegs_is_cut_as_it_was(fields: dict[str, Any]) -> None:
    photo = encoded(PHOTO, quality=92)
    order = work_for(BOXES[0], profiles=(Profile(**fields),))
    old = order.orders[0]._replace(recipe=order.orders[0].recipe.replace('"lossless":false', '"lossless":true'))
    assert old.recipe != order.orders[0].recipe
    assert cuts(photo, order._replace(orders=(old,))) == cuts(photo, order)


def test_upright_is_for_lossless_jpegs() -> None:
    for fields in ({}, {"lossless": True, "format": "webp"}):
        with pytest.raises(ValidationError, match="lossless_upright needs lossless and format jpeg"):
            Profile(lossless_upright=True, **fields)
    # A dumped profile can be read again: a value that equals its default is not refused.
    assert Profile(**LOSSLESS.model_dump()) == LOSSLESS


def test_an_avif_that_cannot_be_lossless_is_refused() -> None:
    with pytest.raises(ValidationError, match="avif crops always lose detail: leave out lossless"):
        Profile(format="avif", lossless=True)


WITHOUT = """
import sys
sys.modules["cropline_regions"] = None  # as if it were not installed
from cropline.config.profile import Profile
from cropline.core.errors import EngineError
from tests.photos import drawn, encoded
from tests.unit.fugue_jobs.imaging.cutting import cuts, work_for
try:
    cuts(encoded(drawn(64, 64)), work_for(profiles=(Profile(lossless=True),)))
except EngineError as error:
    print(error)
"""


def test_a_machine_without_the_extension_refuses_such_a_profile() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "a lossless jpeg needs cropline-regions (native/README.md) on every machine that cuts, and here it is not "
        "installed: pip install --upgrade 'cropline[regions]'\n"
    )


def test_a_box_of_a_photo_that_fails_is_no_lossless_crop() -> None:
    with pytest.raises(PhotoFailure):
        cuts(encoded(PHOTO)[:40], work_for(profiles=(LOSSLESS,)))

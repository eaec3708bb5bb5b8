"""Decoding at a reduced scale: only where it is invisible, exact in its geometry, independent of other profiles."""

import io
import math
import random

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.canvas import Canvas
from fugue_jobs.imaging.decode import open_photo
from fugue_jobs.imaging.encode import read_recipe
from fugue_jobs.imaging.passes import passes
from fugue_jobs.imaging.pixels import cut
from fugue_jobs.work import Box, ImageWork
from tests.photos import drawn, encoded, with_orientation
from tests.unit.fugue_jobs.imaging import hostile
from tests.unit.fugue_jobs.imaging.cutting import WHOLE, cuts, work_for

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

JPEG = encoded(drawn(1201, 803, seed=3), quality=92)
PARTS = (Box("a", 0.1003, 0.2017, 0.8311, 0.9001), Box("b", 0.3, 0.0, 1.0, 0.77))
SMALL = Profile(format="png", max_side=48)


def scales(data: bytes, work: ImageWork) -> list[tuple[int, list[int]]]:
    return list(
        passes(open_photo(data, PictureLimits()), work, [read_recipe(order.recipe) for order in work.orders], "rescale")
    )


def wanted(data: bytes, box: Box, max_side: int) -> Image.Image:
    """The plain way: decode the whole photo, turn it upright, crop, shrink."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    sides = (image.width, image.height) * 2
    edges = [math.floor(edge * side + 0.5) for edge, side in zip(box[1:5], sides, strict=True)]  # type: ignore[operator]
    crop = image.crop(tuple(edges))  # type: ignore[arg-type]
    factor = max_side / max(crop.size)
    return crop.resize((round(crop.width * factor), round(crop.height * factor)), Image.Resampling.LANCZOS)


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Return the peak signal-to-noise ratio in decibels."""
    assert (one.mode, one.size) == (other.mode, other.size)
    squares = sum(ImageStat.Stat(ImageChops.difference(one, other)).sum2)
    return 10 * math.log10(255**2 * 3 * one.width * one.height / max(squares, 1))


CHOICES = {
    "a thumbnail of the whole photo": (JPEG, (WHOLE,), Profile(max_side=48), 8),
    "a larger one": (JPEG, (WHOLE,), Profile(max_side=60), 4),
    "three times as large as wanted is enough": (JPEG, (WHOLE,), Profile(max_side=200), 2),
    "less is not": (JPEG, (WHOLE,), Profile(max_side=201), 1),
    "without a limit": (JPEG, (WHOLE,), Profile(), 1),
    "one box that is not shrunk": (JPEG, (WHOLE, Box("s", 0.1, 0.1, 0.13, 0.13)), Profile(max_side=48), 1),
    "that box is skipped": (JPEG, (WHOLE, Box("s", 0.1, 0.1, 0.13, 0.13)), Profile(max_side=48, min_side=40), 8),
    "that box is outside": (JPEG, (WHOLE, Box("s", 2.1, 2.1, 2.2, 2.2)), Profile(max_side=48), 8),
    "a box that is nearly outside counts": (JPEG, (WHOLE, Box("s", 0.99, 0.99, 1.3, 1.3)), Profile(max_side=48), 1),
    "a sliver": (JPEG, (Box("s", 0.0, 0.0, 1.0, 0.01), WHOLE), Profile(max_side=48), 4),
    "boxes on little of it": (JPEG, (Box("s", 0.1, 0.1, 0.7, 0.7),), Profile(max_side=16), 1),
    "grey": (encoded(drawn(1200, 800).convert("L")), (WHOLE,), Profile(max_side=48), 8),
    "CMYK": (encoded(drawn(1200, 800).convert("CMYK")), (WHOLE,), Profile(max_side=48), 1),
    "PNG": (encoded(drawn(1200, 800), "PNG"), (WHOLE,), Profile(max_side=48), 1),
    "WebP": (encoded(drawn(1200, 800), "WEBP"), (WHOLE,), Profile(max_side=48), 1),
    "turned": (encoded(drawn(1200, 300), exif=with_orientation(6)), (WHOLE,), Profile(max_side=48), 8),
}


@pytest.mark.parametrize(("data", "boxes", "profile", "scale"), CHOICES.values(), ids=CHOICES.keys())
def test_a_photo_is_decoded_smaller_only_where_every_crop_is_shrunk_far_enough(
    data: bytes, boxes: tuple[Box, ...], profile: Profile, scale: int
) -> None:
    assert scales(data, work_for(*boxes, profiles=(profile,))) == [(scale, [0])]


def test_profiles_of_one_scale_share_a_decode() -> None:
    profiles = (Profile(max_side=48), Profile(), SMALL, Profile(max_side=90), Profile(format="webp"))
    assert scales(JPEG, work_for(WHOLE, profiles=profiles)) == [(1, [1, 4]), (4, [3]), (8, [0, 2])]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("max_side", [48, 90, 190])
def test_a_crop_of_a_reduced_decode_is_that_of_the_plain_way_to_the_eye(orientation: int, max_side: int) -> None:
    data = encoded(drawn(1201, 803, seed=3), quality=92, exif=with_orientation(orientation))
    work = work_for(*PARTS, profiles=(Profile(format="png", max_side=max_side),))
    assert max_side > 140 or scales(data, work)[0][0] > 1
    for box, piece in zip(PARTS, cuts(data, work), strict=True):
        assert piece.data is not None
        found, plain = Image.open(io.BytesIO(piece.data)), wanted(data, box, max_side)
        # A shift by a pixel, or by half a pixel of the reduced decode, costs far more.
        assert psnr(found, plain) > 45
        assert psnr(ImageChops.offset(found, 1, 0), plain) < 35


def test_the_bytes_of_a_profile_do_not_know_its_companions() -> None:
    profiles = (SMALL, Profile(), Profile(max_side=90), Profile(max_side=64, colour="keep_icc"), Profile(padding=0.2))
    alone = [[piece.data for piece in cuts(JPEG, work_for(*PARTS, profiles=(one,)))] for one in profiles]
    for order in ((0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4)):
        together = cuts(JPEG, work_for(*PARTS, profiles=tuple(profiles[number] for number in order)))
        for position, number in enumerate(order):
            own = [piece for piece in together if piece.outcome.order == position]
            assert [piece.outcome.box_index for piece in own] == [0, 1]
            assert [piece.data for piece in own] == alone[number]


def test_the_bytes_do_not_know_the_limits_of_the_settings() -> None:
    work = work_for(WHOLE, Box("half out", 0.6, 0.1, 1.4, 0.9), profiles=(SMALL,))
    strict, mild = (cuts(JPEG, work, min_iou=least) for least in (0.9, 0.1))
    assert (strict[1].outcome.reason, mild[1].outcome.reason) == ("box_mostly_outside", None)
    assert strict[0].data == mild[0].data


def test_a_canvas_that_held_another_photo_changes_nothing() -> None:
    canvas, limits = Canvas(), PictureLimits()
    work = work_for(*PARTS, profiles=(SMALL, Profile(), Profile(max_side=90)))
    open_photo(encoded(Image.new("RGB", (1500, 1500), "white")), limits).load(canvas)
    assert list(cut(open_photo(JPEG, limits), work, limits, lambda: None, canvas)) == cuts(JPEG, work)


def test_a_spoilt_photo_ends_the_same_whatever_is_decoded_beside_or_before_it() -> None:
    seed = 91
    print(f"seed {seed}")
    dice, canvas, limits, endings = random.Random(seed), Canvas(), PictureLimits(), set()
    white = encoded(Image.new("RGB", (500, 500), "white"))
    small, full = Profile(max_side=16), Profile()

    def ended(data: bytes, used: Canvas | None, *profiles: Profile) -> list[bytes | None] | str:
        """Return the outcomes of the first profile."""
        try:
            found = list(cut(open_photo(data, limits), work_for(profiles=profiles), limits, lambda: None, used))
        except PhotoFailure as failure:
            return failure.code
        return [piece.data for piece in found if piece.outcome.order == 0]

    kinds = [encoded(drawn(320, 240), progressive=True), encoded(drawn(320, 240).convert("L")), hostile.JPEG]
    for _ in range(60):
        data = bytearray(dice.choice(kinds))
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(2, len(data))
            data[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        if dice.random() < 0.3:
            del data[dice.randrange(100, len(data)) :]
        alone = ended(bytes(data), None, small)
        open_photo(white, limits).load(canvas)
        assert ended(bytes(data), canvas, small, full) == alone
        assert ended(bytes(data), None, full, small) == ended(bytes(data), None, full)
        endings.add(type(alone))
    assert endings == {list, str}, "else the spoiling spoils nothing or all"

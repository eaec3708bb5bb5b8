"""Reused memory shows nothing of the previous photo."""

import random

import pytest
from PIL import Image

from cropline.config.pictures import PictureLimits
from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.canvas import Canvas
from fugue_jobs.imaging.decode import open_photo
from fugue_jobs.imaging.pixels import cut
from fugue_jobs.work import Box, CropOutcome
from tests.photos import drawn, encoded, with_orientation
from tests.unit.fugue_jobs.imaging import hostile
from tests.unit.fugue_jobs.imaging.cutting import work_for

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

LIMITS = PictureLimits(formats=hostile.ALL_FORMATS)
WHITE = encoded(Image.new("RGB", (700, 700), "white"))
BOXES = (Box("whole", 0.0, 0.0, 1.0, 1.0), Box("part", 0.2, 0.3, 0.9, 0.95))


def outcome(data: bytes, canvas: Canvas | None) -> list[tuple[CropOutcome, bytes | None]] | str:
    """Return the photo's crops; the reason when the whole photo fails."""
    try:
        photo = open_photo(data, LIMITS)
        return [tuple(piece) for piece in cut(photo, work_for(*BOXES), LIMITS, lambda: None, canvas)]  # type: ignore[misc]
    except PhotoFailure as failure:
        return failure.code


def soiled(canvas: Canvas) -> Canvas:
    """Return the canvas after a white photo, larger than all others of this suite, by each decoder."""
    open_photo(WHITE, LIMITS).load(canvas)
    open_photo(WHITE, LIMITS).load(canvas, wanted=[(0, 0, 700, 700)])
    return canvas


def test_photos_of_all_sizes_modes_and_turns_come_out_as_without_a_canvas() -> None:
    canvas = Canvas()
    photos = [
        encoded(drawn(width, height, seed=width), exif=with_orientation(turn))
        for turn, (width, height) in enumerate([(300, 200), (200, 300), (64, 640), (640, 64), (301, 199)], start=2)
    ]
    photos += [encoded(drawn(320, 240).convert(mode)) for mode in ("L", "CMYK", "RGB")]
    photos += [hostile.progressive_bomb(3), hostile.multi_picture(), *(case.data for case in hostile.HOSTILE)]
    for data in photos:
        assert outcome(data, soiled(canvas)) == outcome(data, None)


def test_a_spoilt_photo_never_shows_the_photo_before() -> None:
    seed = 4711
    print(f"seed {seed}")
    dice, canvas = random.Random(seed), Canvas()
    photos = [hostile.JPEG, encoded(drawn(320, 240), progressive=True), encoded(drawn(320, 240).convert("L"))]
    endings = set()
    for _ in range(250):
        data = bytearray(dice.choice(photos))
        for _ in range(dice.randrange(1, 8)):
            at = dice.randrange(2, len(data))
            data[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        if dice.random() < 0.3:
            del data[dice.randrange(100, len(data)) :]
        found = outcome(bytes(data), soiled(canvas))
        assert found == outcome(bytes(data), None)
        endings.add(type(found))
    assert endings == {list, str}, "else the spoiling spoils nothing or all"


def test_a_large_photo_is_not_held_on_to() -> None:
    canvas = Canvas()
    for data in (encoded(Image.new("RGB", (4100, 4100))), encoded(Image.new("RGB", (3900, 10)))):
        photo = open_photo(data, LIMITS)
        photo.load(canvas)
        assert photo.image.im.size == photo.image.size


def test_the_memory_is_the_same_from_photo_to_photo() -> None:
    canvas, ids = Canvas(), []
    for width in (400, 300, 200):
        photo = open_photo(encoded(drawn(width, 200)), LIMITS)
        photo.load(canvas)
        ids.append(id(photo.image.im))
    assert len(set(ids)) == 1

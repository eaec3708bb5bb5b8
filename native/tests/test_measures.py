"""Measures of pixels in memory are those of Pillow's steps, bit for bit."""

from __future__ import annotations

import random
from typing import Any

import plain
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jpegs import drawn, sampled, whole
from PIL import Image, ImageDraw

regions = pytest.importorskip("cropline_regions", reason="cropline-regions is not built: make native")
_regions: Any = pytest.importorskip("cropline_regions._regions")

PROPERTY = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
GRID, WINDOW = 32, 40
# At the edges of the grid and of the window, where a pass of Pillow's resampling is left out.
SIDES = st.one_of(st.sampled_from([1, 2, 3, 31, 32, 33, 39, 40, 41, 64]), st.integers(1, 300))


@st.composite
def pictures(draw: st.DrawFn) -> Image.Image:
    """Draw noise, also of nearly black, nearly white and hard edges only."""
    size, chance = (draw(SIDES), draw(SIDES)), random.Random(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([range(256), range(250, 256), range(3), (0, 255)]))
    table = bytes(levels[value * len(levels) // 256] for value in range(256))
    return Image.frombytes("RGB", size, chance.randbytes(3 * size[0] * size[1]).translate(table))


def viewed(picture: Image.Image, box: tuple[int, int, int, int] | None = None) -> Any:
    """Return the picture as a view of memory, as the decoder leaves it."""
    # Pillow maps whole rows, also behind the last pixel.
    memory = bytearray(5) + bytearray(picture.tobytes("raw", "RGBX")) + bytearray(4 * picture.width)
    return regions.Band(0, 0, *picture.size, "RGB", memory, 5).image(box)


@PROPERTY
@given(picture=pictures(), parts=st.tuples(*[st.floats(0, 1)] * 4))
def test_a_view_has_the_measures_that_pillow_finds(picture: Image.Image, parts: tuple[float, ...]) -> None:
    left, top = int(parts[0] * (picture.width - 1)), int(parts[1] * (picture.height - 1))
    right = left + 1 + int(parts[2] * (picture.width - left - 1))
    bottom = top + 1 + int(parts[3] * (picture.height - top - 1))
    found = viewed(picture, (left, top, right, bottom)).measured(GRID, WINDOW)
    crop = picture.crop((left, top, right, bottom))
    assert found == plain.measured(crop, GRID, WINDOW)


def test_every_colour_has_pillows_luma() -> None:
    # All of red and green by a few blues, so that each sum is rounded both ways.
    for blue in (0, 1, 127, 128, 254, 255):
        cube = Image.frombytes(
            "RGB", (256, 256), bytes(c for r in range(256) for g in range(256) for c in (r, g, blue))
        )
        luma = b"".join(
            viewed(cube, (x, y, x + 64, y + 64)).measured(64, 0).sample
            for x in (0, 64, 128, 192)
            for y in (0, 64, 128, 192)
        )
        expected = cube.convert("L")
        assert luma == b"".join(
            expected.crop((x, y, x + 64, y + 64)).tobytes() for x in (0, 64, 128, 192) for y in (0, 64, 128, 192)
        )


def test_a_view_that_has_other_pixels_by_now_does_not_measure_the_old_ones() -> None:
    view = viewed(drawn(50, 50, 1))
    assert view.measured(GRID, WINDOW) is not None
    ImageDraw.Draw(view).rectangle((0, 0, 50, 50), "black")
    assert view.measured(GRID, WINDOW) is None
    assert view.getpixel((10, 10)) == (0, 0, 0)


def test_a_grey_view_does_not_measure_itself() -> None:
    assert regions.Band(0, 0, 50, 50, "L", bytearray(2600), 0).image().measured(GRID, WINDOW) is None


def test_a_view_equals_an_image_of_the_same_pixels() -> None:
    picture = drawn(30, 20, 1)
    view, other = viewed(picture), viewed(drawn(30, 20, 2))
    assert view == picture
    assert picture == view
    assert view == viewed(picture)
    assert view != other
    assert view != drawn(20, 30, 1)


def test_a_decoded_box_has_the_measures_of_pillows_decode() -> None:
    data, box = sampled(400, 300, 1, "420"), (33, 51, 333, 260)
    (band,) = regions.decode(data, [box])
    crop = whole(data).crop(box)
    assert band.image(box).measured(GRID, WINDOW) == plain.measured(crop, GRID, WINDOW)


@pytest.mark.parametrize(
    ("first", "stride", "size", "grid", "window"),
    [
        (-1, 40, (10, 10), 32, 40),
        (0, -40, (10, 10), 32, 40),
        (0, 40, (-10, 10), 32, 40),
        (0, 40, (10, 0), 32, 40),
        (0, 39, (10, 10), 32, 40),
        (1, 40, (10, 10), 32, 40),
        (0, 44, (10, 10), 32, 40),
        (0, 40, (10, 11), 32, 40),
        (0, 40, (2**40, 2**40), 32, 40),
        (2**63 - 1, 2**63 - 1, (10, 10), 32, 40),
        (0, 40, (10, 10), 0, 40),
        (0, 40, (10, 10), 65, 40),
        (0, 40, (10, 10), 32, 65),
    ],
)
def test_pixels_outside_of_the_memory_are_refused(
    first: int, stride: int, size: tuple[int, int], grid: int, window: int
) -> None:
    assert _regions.measure(bytearray(400), 0, 40, (10, 10), 32, 40)
    with pytest.raises(ValueError, match="in the memory"):
        _regions.measure(bytearray(400), first, stride, size, grid, window)

"""Two cheap measures of a crop for drift checks, from samples: brightness and sharpness.

Measuring every pixel would cost a tenth of the job. Where a crop's pixels are in the memory of cropline-regions (native/),
it measures them in one call. Elsewhere Pillow does, to the same numbers. The samples are so small that Pillow's Image
objects would cost twice as much as the steps, so the code uses the core image (``Image.im``).
"""

from __future__ import annotations

from operator import mul
from typing import Any, NamedTuple

from PIL import Image, ImageFilter, _imaging

GRID = 32  # px per side of the grid of single pixels whose brightness is averaged
_WINDOW = 40  # px per side of the window in the crop's middle, at full resolution, where edges are measured
_OFFSET = 128
_LAPLACE = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=_OFFSET).filterargs
_SQUARES = [(level - _OFFSET) ** 2 for level in range(256)]


class Sample(NamedTuple):
    """The luma of a small picture of a crop, row by row. ``size``: (width, height) px, at most 32 each."""

    luma: bytes
    size: tuple[int, int]


class Measures(NamedTuple):
    """``sample``: a regular grid of the crop's pixels. ``luminance``: its mean, 0 to 255.

    ``sharpness``: the variance (about zero) of the Laplacian of the luma in the crop's middle (at most 40 x 40 px). 0
    for crops under 3 px per side. Edges beyond 127 grey levels count as 127.
    """

    sample: Sample
    luminance: float
    sharpness: float


def measures(crop: Image.Image) -> Measures:
    """Return the measures of an RGB or RGBA crop."""
    width, height = crop.size
    # Only views of decoded memory can measure themselves, while they have its pixels.
    measured = getattr(crop, "measured", None)
    found = None if measured is None or min(width, height) < GRID else measured(GRID, _WINDOW)
    if found is None:
        return _by_pillow(crop)
    # Exact, so Pillow's mean, which depends on its order of additions where a side is not a power of two.
    mean = found.total / (GRID * GRID)
    return Measures(Sample(found.sample, (GRID, GRID)), round(mean, 2), sharpness(found.squares, width, height))


def sampled(pixels: Any) -> tuple[Sample, float]:
    """Return a core image of mode L as a sample, and its mean luma, 0 to 255."""
    width, height = size = pixels.size
    # Image.tobytes asks for 64 KB first.
    encoder = _imaging.raw_encoder("L", "L")
    encoder.setimage(pixels, (0, 0, *size))
    _, _, luma = encoder.encode(width * height)
    # In floating point and inside Pillow: adding up a histogram in Python takes three times as long.
    mean = pixels.convert("F").resize((1, 1), Image.Resampling.BOX, (0, 0, *size))
    return Sample(luma, size), round(float(mean.getpixel((0, 0))), 2)


def sharpness(squares: int, width: int, height: int) -> float:
    """Return the sharpness of a crop of this size, from the sum of the squares of the Laplacian in its middle."""
    width, height = min(width, _WINDOW), min(height, _WINDOW)
    # The outermost pixels have no neighbours. The mean of a Laplacian is close to zero, so its mean square is its variance.
    return round(squares / ((width - 2) * (height - 2)), 2) if min(width, height) > 2 else 0.0


def middle(width: int, height: int) -> tuple[int, int, int, int]:
    """Return the window of a crop of this size in which sharpness is measured."""
    left, top = max(0, (width - _WINDOW) // 2), max(0, (height - _WINDOW) // 2)
    return left, top, min(width, left + _WINDOW), min(height, top + _WINDOW)


def _by_pillow(crop: Image.Image) -> Measures:
    size = min(crop.width, GRID), min(crop.height, GRID)
    pixels: Any = crop.im
    if crop.size != size:
        pixels = pixels.resize(size, Image.Resampling.NEAREST, (0, 0, *crop.size))
    return Measures(*sampled(pixels.convert("L")), sharpness(_squares(crop), *crop.size))


def _squares(crop: Image.Image) -> int:
    """Return the sum of the squares of the Laplacian of the luma in the crop's middle."""
    if min(crop.size) < 3:
        return 0
    window: Any = crop.im.crop(middle(*crop.size))
    edges: Any = window.convert("L").filter(*_LAPLACE)
    # The filter leaves the outermost pixels unchanged.
    inner = edges.crop((1, 1, edges.size[0] - 1, edges.size[1] - 1))
    return sum(map(mul, _SQUARES, inner.histogram()))

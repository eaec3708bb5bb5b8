"""Two cheap measures of a crop for drift checks, from samples: brightness and sharpness.

Measuring every pixel would cost a tenth of the job. The samples are so small that Pillow's Image objects
would cost twice as much as the steps, so the code uses the core image (``Image.im``).
"""

from __future__ import annotations

from operator import mul
from typing import Any

from PIL import Image, ImageFilter

GRID = 32  # px per side of the grid of single pixels whose brightness is averaged
_WINDOW = 40  # px per side of the window in the crop's middle, at full resolution, where edges are measured
_OFFSET = 128
_LAPLACE = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=_OFFSET).filterargs
_SQUARES = [(level - _OFFSET) ** 2 for level in range(256)]


def sample(crop: Image.Image) -> Image.Image:
    """Return the luma of a regular grid of at most 32 x 32 pixels of an RGB or RGBA crop."""
    size = min(crop.width, GRID), min(crop.height, GRID)
    pixels: Any = crop.im
    if crop.size != size:
        pixels = pixels.resize(size, Image.Resampling.NEAREST, (0, 0, *crop.size))
    return crop._new(pixels.convert("L"))


def luminance(sampled: Image.Image) -> float:
    """Return the mean luma, 0 to 255, of a crop's sample."""
    pixels: Any = sampled.im
    # In floating point and inside Pillow: adding up a histogram in Python takes three times as long.
    mean = pixels.convert("F").resize((1, 1), Image.Resampling.BOX, (0, 0, *sampled.size))
    return round(float(mean.getpixel((0, 0))), 2)


def sharpness(crop: Image.Image) -> float:
    """Return the variance (about zero) of the Laplacian of the luma in the crop's middle (at most 40 x 40 px).

    0 for crops under 3 px per side. Edges beyond 127 grey levels count as 127.
    """
    if min(crop.size) < 3:
        return 0.0
    window: Any = crop.im.crop(middle(*crop.size))
    edges: Any = window.convert("L").filter(*_LAPLACE)
    width, height = int(edges.size[0]), int(edges.size[1])
    # The outermost pixels have no neighbours: the filter leaves them unchanged.
    inner = edges.crop((1, 1, width - 1, height - 1))
    # The mean of a Laplacian is close to zero, so its mean square is its variance.
    squares: int = sum(map(mul, _SQUARES, inner.histogram()))
    return round(squares / ((width - 2) * (height - 2)), 2)


def middle(width: int, height: int) -> tuple[int, int, int, int]:
    """Return the window of a crop of this size in which sharpness is measured."""
    left, top = max(0, (width - _WINDOW) // 2), max(0, (height - _WINDOW) // 2)
    return left, top, min(width, left + _WINDOW), min(height, top + _WINDOW)

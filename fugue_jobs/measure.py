"""Two cheap numbers of a crop, for drift checks downstream: how bright it is and how sharp. Sampled, not exhaustive.

Measuring every pixel would cost a tenth of the job; these samples cost about a fortieth of it.
"""

from operator import mul
from typing import Any

from PIL import Image, ImageFilter

_GRID = 32  # px a side of the grid of single pixels that the brightness is averaged over
_WINDOW = 40  # px a side of the window in the crop's middle, at full resolution, where edges are measured
_OFFSET = 128
_LAPLACE = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=_OFFSET)
_SQUARES = [(level - _OFFSET) ** 2 for level in range(256)]


def sample(crop: Image.Image) -> Image.Image:
    """The luma of a regular grid of at most 32 x 32 pixels of an RGB or RGBA crop."""
    size = min(crop.width, _GRID), min(crop.height, _GRID)
    return (crop if crop.size == size else crop.resize(size, Image.Resampling.NEAREST)).convert("L")


def luminance(sampled: Image.Image) -> float:
    """Mean luma, 0..255, of a crop's sample."""
    return round(_mean(sampled), 2)


def sharpness(crop: Image.Image) -> float:
    """Variance (about zero) of the Laplacian of the luma in the crop's middle (at most 40 x 40 px); 0 for crops under 3 px a side.

    Edges beyond 127 grey levels count as 127.
    """
    if min(crop.size) < 3:
        return 0.0
    left, top = max(0, (crop.width - _WINDOW) // 2), max(0, (crop.height - _WINDOW) // 2)
    window = crop.crop((left, top, min(crop.width, left + _WINDOW), min(crop.height, top + _WINDOW)))
    edges = window.convert("L").filter(_LAPLACE)
    # The outermost pixels have no neighbours: the filter leaves them as they were.
    inner = edges.crop((1, 1, edges.width - 1, edges.height - 1))
    # The mean of a Laplacian is next to nothing: its mean square is its variance.
    squares: int = sum(map(mul, _SQUARES, inner.histogram()))
    return round(squares / (inner.width * inner.height), 2)


def _mean(grey: Image.Image) -> float:
    """In floating point and inside Pillow: summing up a histogram in Python takes three times as long."""
    value: Any = grey.convert("F").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    return float(value)

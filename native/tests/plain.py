"""The plain Pillow way of what the extension measures: whole images, public methods."""

from __future__ import annotations

from PIL import Image, ImageFilter

LAPLACE = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128)


def sample(picture: Image.Image, grid: int) -> Image.Image:
    """Return the luma of a regular grid of pixels."""
    size = min(picture.width, grid), min(picture.height, grid)
    return picture.resize(size, Image.Resampling.NEAREST).convert("L")


def squares(picture: Image.Image, window: int) -> int:
    """Return the sum of the squares of the Laplacian of the luma in the middle."""
    width, height = min(picture.width, window), min(picture.height, window)
    if min(width, height) < 3:
        return 0
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    edges = picture.convert("L").crop((left, top, left + width, top + height)).filter(LAPLACE)
    inner = edges.crop((1, 1, width - 1, height - 1))
    return sum((level - 128) ** 2 * count for level, count in enumerate(inner.histogram()))


def measured(picture: Image.Image, grid: int, window: int) -> tuple[bytes, int, int]:
    luma = sample(picture, grid).tobytes()
    return luma, sum(luma), squares(picture, window)

"""Reads the lower bytes of a PNG's 16-bit samples, which Pillow drops in all modes except grey."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import Image, ImageFile

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile as OpenedImage

# How Pillow unpacks the upper bytes -> how it unpacks the lower ones of the same samples.
_LOWER = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": "RGBA"}


def read_low(image: OpenedImage, *, going_on: bool) -> Image.Image | None:
    """Return the lower bytes of an opened PNG's samples, in its mode; None where Pillow keeps all of them."""
    tile = image.tile[0]
    lower = _LOWER.get(str(tile.args))
    if lower is None:
        return None
    image.tile = [tile._replace(args=lower)]
    with pillow_going_on(going_on):
        image.load()
    if lower != "RGBA":
        return image
    # Grey and alpha of two bytes each were read as four channels.
    _, grey, _, alpha = image.split()
    return Image.merge("RGBA", (grey, grey, grey, alpha))


@contextmanager
def pillow_going_on(wanted: bool) -> Iterator[None]:
    """Make Pillow keep what it decoded of a damaged photo, if wanted."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, wanted
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before

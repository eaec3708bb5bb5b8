"""The lower bytes of a PNG's 16-bit samples, which Pillow leaves out of all modes but grey."""

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
    """The lower bytes of the samples of an opened PNG, in its mode; None where it has all of them itself."""
    tile = image.tile[0]
    lower = _LOWER.get(str(tile.args))
    if lower is None:
        return None
    image.tile = [tile._replace(args=lower)]
    with pillow_going_on(going_on):
        image.load()
    if lower != "RGBA":
        return image
    # Grey and alpha, two bytes each, were read as if they were four channels.
    _, grey, _, alpha = image.split()
    return Image.merge("RGBA", (grey, grey, grey, alpha))


@contextmanager
def pillow_going_on(wanted: bool) -> Iterator[None]:
    """Pillow keeps what it has decoded of a damaged photo, where that is wanted."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, wanted
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before

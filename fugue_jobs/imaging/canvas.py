"""Picture memory that is used again for one photo after another, instead of being made and zeroed for each.

Belongs here: lending that memory to a JPEG decoder, Pillow's or that of regions.py. Does not: anything about a photo's
content. Every row of a photo is written by the decoder before its pixels are read, or the decoding fails and no pixel is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from PIL._imaging import ImagingCore
    from PIL.ImageFile import ImageFile

# Larger ones are rare, and holding memory for them would cost every process as much.
_LARGEST = 16_000_000
_BYTES_A_PIXEL = 4


class Canvas:
    """Memory of one decoding thread, for one decoder at a time. What was decoded into it is valid until the next photo is."""

    def __init__(self) -> None:
        self._held: dict[str, ImagingCore] = {}
        self._room = bytearray()

    def room(self, size: int) -> bytearray:
        """At least so many bytes."""
        if size > len(self._room):
            if size > _LARGEST * _BYTES_A_PIXEL:
                return bytearray(size)
            # The old one goes before the new one comes.
            self._drop()
            self._room = bytearray(size)
        return self._room

    def lend(self, image: ImageFile) -> None:
        """Let this photo, which is not decoded yet, be decoded into the canvas, if it is of a kind that can be.

        The photo's own size stays what it is, its memory may be larger: only rectangles inside it may be taken.
        """
        if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L") or len(image.tile) != 1:
            return
        held = self._held.get(image.mode)
        if held is None or held.size[0] < image.width or held.size[1] < image.height:
            if image.width * image.height > _LARGEST:
                return
            size = _grown(held, image)
            # One at a time: cameras seldom mix modes or kinds of JPEG.
            held = None
            self._drop()
            held = self._held[image.mode] = Image.new(image.mode, size).im
        image.im = held

    def _drop(self) -> None:
        self._held.clear()
        self._room = bytearray()


def _grown(held: ImagingCore | None, image: ImageFile) -> tuple[int, int]:
    if held is None:
        return image.size
    size = max(held.size[0], image.width), max(held.size[1], image.height)
    return size if size[0] * size[1] <= _LARGEST else image.size

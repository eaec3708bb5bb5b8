"""Pixel memory that is reused from photo to photo, instead of being allocated and zeroed for each.

The decoder writes every row before its pixels are read, or the decoding fails and no pixel is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from PIL._imaging import ImagingCore
    from PIL.ImageFile import ImageFile

# Larger photos are rare, and every process would need as much memory for them.
_LARGEST = 16_000_000
_BYTES_A_PIXEL = 4


class Canvas:
    """Memory of one decoding thread, for one decoder at a time. The next decode overwrites a photo."""

    def __init__(self) -> None:
        self._held: dict[str, ImagingCore] = {}
        self._room = bytearray()

    def room(self, size: int) -> bytearray:
        """Return a buffer of at least ``size`` bytes."""
        if size > len(self._room):
            if size > _LARGEST * _BYTES_A_PIXEL:
                return bytearray(size)
            # Release the old buffer before the new one is allocated.
            self._drop()
            self._room = bytearray(size)
        return self._room

    def lend(self, image: ImageFile) -> None:
        """Make an undecoded photo decode into the canvas, if its kind allows it.

        The photo keeps its size; its memory may be larger. Only rectangles inside the photo may be cropped.
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

"""Rectangles of a JPEG as JPEG files: the bits are copied, so nothing is decoded or encoded."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image

from cropline_regions import _regions
from cropline_regions._plan import Box
from cropline_regions._undecoded import Undecoded

_BLOCK = 8


class Turn(NamedTuple):
    """How the stored picture becomes upright: x and y are swapped, then x is mirrored, then y."""

    swap: bool
    mirror_x: bool
    mirror_y: bool


class Turning(NamedTuple):
    """The rectangle that is turned for a box, and the size (width, height) of the result."""

    rectangle: Box
    size: tuple[int, int]


class Pieces:
    """A JPEG whose rectangles become files. Its bits are walked once, down to row ``bottom`` (px, exclusive).

    Rectangles are (left, top, right, bottom) in pixels of the stored picture. They begin with whole MCUs (``outer``) and
    end anywhere above ``bottom``. For one thread at a time. ``width``, ``height``: of the picture; ``across``, ``down``:
    of an MCU; all in pixels. Raise Undecoded, and ValueError for a ``bottom`` or rectangle that is not in the picture.
    """

    def __init__(self, data: bytes, bottom: int) -> None:
        try:
            self._pieces = _regions.Pieces(data, bottom)
        except _regions.Refusal as refusal:
            raise Undecoded(*refusal.args) from None
        self.width, self.height, self.across, self.down = self._pieces.size

    def outer(self, box: Box) -> Box:
        """Return the box with its left and top edges moved out to whole MCUs."""
        left, top, right, bottom = box
        return left - left % self.across, top - top % self.down, right, bottom

    def file(self, rectangle: Box, segments: bytes = b"") -> bytes:
        """Return the rectangle as a JPEG file with these segments. It has no other metadata.

        Its pixels are the photo's, but for 2 px at its edges where chroma is interpolated. Bits of partly used MCUs at
        the right and bottom edge stay in the file; decoders do not show them.
        """
        try:
            return self._pieces.file(rectangle, segments)
        except _regions.Refusal as refusal:
            raise Undecoded(*refusal.args) from None

    def turning(self, box: Box, turn: Turn) -> Turning | None:
        """Return what must be turned for this box; None where that would need more pixels than the photo has.

        Left and top edges of the result move out to whole MCUs; these may be right and bottom edges of the photo.
        """
        over_x, over_y = (turn.mirror_y, turn.mirror_x) if turn.swap else (turn.mirror_x, turn.mirror_y)
        left, top, right, bottom = self.outer(box)
        width, height = right - left, bottom - top
        if over_x:
            right += -right % self.across
            width = right - box[0]
        if over_y:
            bottom += -bottom % self.down
            height = bottom - box[1]
        if right > self.width or bottom > self.height:
            return None
        return Turning((left, top, right, bottom), (height, width) if turn.swap else (width, height))

    def turned(self, turning: Turning, turn: Turn, segments: bytes = b"") -> bytes:
        """Return the rectangle as a turned JPEG file: its coefficients are moved, with new Huffman tables."""
        try:
            return self._pieces.turned(turning.rectangle, turning.size, turn, segments)
        except _regions.Refusal as refusal:
            raise Undecoded(*refusal.args) from None

    def levels(self, rectangle: Box) -> Image.Image:
        """Return the luma of a small picture of the rectangle: a pixel for each MCU, its mean."""
        left, top, right, bottom = rectangle
        # Blocks outside of the picture may have any value.
        right = max(left + 1, min(right, self._shown(self.width, self.across)))
        bottom = max(top + 1, min(bottom, self._shown(self.height, self.down)))
        size = -(-right // self.across) - left // self.across, -(-bottom // self.down) - top // self.down
        return _grey(size, self._pieces.levels((left, top, right, bottom)))

    def edges(self, window: Box) -> int:
        """Return the sum of the squares of the Laplacian of the window's luma: only its own MCUs are decoded.

        The window has at least 3 x 3 px and may begin anywhere. Each value is limited to -128..127.
        """
        try:
            return self._pieces.edges(window)
        except _regions.Refusal as refusal:
            raise Undecoded(*refusal.args) from None

    def grey(self, rectangle: Box) -> Image.Image:
        """Return the decoded luma of the rectangle."""
        left, top, right, bottom = rectangle
        try:
            return _grey((right - left, bottom - top), self._pieces.grey(rectangle))
        except _regions.Refusal as refusal:
            raise Undecoded(*refusal.args) from None

    @staticmethod
    def _shown(side: int, mcu: int) -> int:
        """Return the pixels of the MCUs whose blocks all begin inside the picture."""
        return (-(-(side + _BLOCK) // mcu) - 1) * mcu


def _grey(size: tuple[int, int], pixels: bytes) -> Image.Image:
    """Return an image over these bytes, without a copy."""
    image = Image.Image()
    # As Image.frombuffer, whose checks take ten times as long.
    image.im = Image.core.map_buffer(pixels, size, "raw", 0, ("L", 0, 1))
    image._mode, image._size, image.readonly = "L", size, 1
    return image

"""The parts of a JPEG that boxes need, without decoding the rest: the same pixels as Pillow's, for less.

    bands = decode(data, [(left, top, right, bottom), ...])
    crop = bands[0].image((left, top, right, bottom))  # no copy

Belongs here: which rows and columns are decoded for which boxes, and pictures over them. Does not: libjpeg (src/_regions.c),
EXIF or colour.

Importing raises ImportError when the JPEG library of this Pillow cannot be used; its message says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from PIL import Image, _imaging

from cropline_regions import _regions

__all__ = ["MERGED", "Band", "Box", "Undecoded", "decode", "plan", "size"]

# Bands nearer than this are one. Below 32 rows jpeg_skip_scanlines itself gives wrong rows where chroma is sampled by four
# (libjpeg-turbo issue 915); at 16 to 128 the cost is within a twentieth of the same.
MERGED = 32
MARGIN = 8
# libjpeg begins at a whole block of the coarsest sampling (4 x 8 px) and so may decode more columns on the left.
_WIDENED = 32

Box = tuple[int, int, int, int]

try:
    _regions.bind(_imaging.__file__)
except OSError as error:
    raise ImportError(str(error)) from None


class Undecoded(Exception):
    """This JPEG is not for us: Pillow decodes it, or fails on it. ``reason`` is one word, ``detail`` more of it.

    progressive, arithmetic, precision, lossless, several_scans, components, colour_space: kinds of JPEG that are not supported.
    corrupt: libjpeg warned of the data, or it does not end as it should. failed: libjpeg gave up.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Band(NamedTuple):
    """A rectangle of the picture in pixels. Its rows stand in ``memory`` from ``offset`` on, without padding: 4 bytes a pixel
    where ``mode`` is RGB, as Pillow holds it, 1 where it is L. Valid until somebody else is given the memory."""

    left: int
    top: int
    width: int
    height: int
    mode: str
    memory: bytearray
    offset: int

    @property
    def stride(self) -> int:
        """Bytes of a row."""
        return self.width * (1 if self.mode == "L" else 4)

    @property
    def data(self) -> memoryview:
        """The band's rows."""
        return memoryview(self.memory)[self.offset : self.offset + self.stride * self.height]

    def image(self, box: Box | None = None) -> Image.Image:
        """The band, or this box of the picture that lies in it, as a picture over the same memory, not a copy of it.

        Raises ValueError for a box that is empty or sticks out of the band.
        """
        right, bottom = self.left + self.width, self.top + self.height
        left, top, x, y = box or (self.left, self.top, right, bottom)
        if not (self.left <= left < x <= right and self.top <= top < y <= bottom):
            raise ValueError(f"{box} is empty or sticks out of {(self.left, self.top, right, bottom)}")
        first = self.offset + (top - self.top) * self.stride + (left - self.left) * self.stride // self.width
        return _mapped(self.memory, first, (x - left, y - top), self.mode, self.stride)


def _mapped(memory: bytearray, first: int, size: tuple[int, int], mode: str, stride: int) -> Image.Image:
    # Image.frombuffer does this for whole buffers, and not for RGB, whose pixels have four bytes inside Pillow only.
    picture = Image.Image()._new(Image.core.map_buffer(memory, size, "raw", first, (mode, stride, 1)))
    # Pillow copies it before it would draw into it.
    picture.readonly = 1
    return picture


try:
    _mapped(bytearray(8), 4, (1, 1), "RGB", 4)
except (AttributeError, TypeError, ValueError) as error:
    raise ImportError(f"this Pillow does not map memory as RGB: {error}") from None


def size(data: bytes, *, scale: int = 1) -> tuple[int, int]:
    """(width, height) px of the picture at 1/scale. Raises Undecoded."""
    try:
        return _regions.size(data, scale)
    except _regions.Refusal as refusal:
        raise Undecoded(*refusal.args) from None


def decode(
    data: bytes,
    boxes: Iterable[Box],
    *,
    margin: int = MARGIN,
    scale: int = 1,
    memory: Callable[[int], bytearray] = bytearray,
) -> list[Band]:
    """Bands from top to bottom, all of the same columns; each box lies in one of them.

    Boxes are (left, top, right, bottom) in pixels of the picture as stored, at 1/scale (1, 2, 4, 8), right and bottom
    just outside. ``margin`` pixels around them are decoded too: next to an edge of what is decoded, chroma is
    interpolated without its neighbours, so less than 2 is not exact. ``memory`` gives at least so many bytes to decode
    into; what gives the same again ends the bands that were there.
    Raises Undecoded, and ValueError for boxes that are empty or stick out of the picture.
    """
    try:
        columns, rows = plan(list(boxes), *_regions.size(data, scale), margin=margin)
        room = memory(_bytes(columns, rows))
        mode, left, width = _regions.decode(data, scale, columns, rows, room)
    except _regions.Refusal as refusal:
        raise Undecoded(*refusal.args) from None
    bands: list[Band] = []
    offset = 0
    for top, bottom in rows:
        bands.append(Band(left, top, width, bottom - top, mode, room, offset))
        offset += len(bands[-1].data)
    return bands


def _bytes(columns: tuple[int, int], rows: tuple[tuple[int, int], ...]) -> int:
    """What the bands need at most. One row more: a picture of the last box is mapped by whole strides."""
    height = sum(bottom - top for top, bottom in rows) + 1
    return (columns[1] - columns[0] + _WIDENED) * 4 * height


def plan(
    boxes: list[Box], width: int, height: int, *, margin: int = MARGIN
) -> tuple[tuple[int, int], tuple[tuple[int, int], ...]]:
    """((left, right), ((top, bottom), ...)): the columns and bands that hold the boxes with their margins."""
    if margin < 0:
        raise ValueError("the margin is negative")
    if not boxes:
        raise ValueError("no boxes")
    for left, top, right, bottom in boxes:
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(f"{(left, top, right, bottom)} is empty or sticks out of {width} x {height} px")
    columns = max(0, min(box[0] for box in boxes) - margin), min(width, max(box[2] for box in boxes) + margin)
    rows: list[tuple[int, int]] = []
    for top, bottom in sorted((max(0, box[1] - margin), min(height, box[3] + margin)) for box in boxes):
        if rows and top - rows[-1][1] < MERGED:
            rows[-1] = rows[-1][0], max(rows[-1][1], bottom)
        else:
            rows.append((top, bottom))
    return columns, tuple(rows)

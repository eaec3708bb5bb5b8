"""The parts of a JPEG that boxes need, without decoding the rest: the same pixels as Pillow's, for less.

    bands = decode(data, [(left, top, right, bottom), ...])
    crop = bands[0].image()  # no copy

Belongs here: which rows and columns are decoded for which boxes. Does not: libjpeg (src/_regions.c), EXIF or colour.

Importing raises ImportError when the JPEG library of this Pillow cannot be used; its message says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from PIL import Image, _imaging

from cropline_regions import _regions

__all__ = ["MERGED", "Band", "Box", "Undecoded", "decode", "plan", "size"]

# Starting and ending a band costs about as much as decoding so many rows.
MERGED = 32
MARGIN = 16

Box = tuple[int, int, int, int]

try:
    _regions.bind(_imaging.__file__)
except OSError as error:
    raise ImportError(str(error)) from None


class Undecoded(Exception):
    """This JPEG is not for us: Pillow decodes it, or fails on it. ``reason`` is one word, ``detail`` more of it.

    progressive, arithmetic, precision, several_scans, components, colour_space: kinds of JPEG that are not supported.
    corrupt: libjpeg warned of the data, or it does not end as it should. failed: libjpeg gave up.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Band(NamedTuple):
    """A rectangle of the picture in pixels; ``data`` holds its rows without padding, ``mode`` is RGBX or L."""

    left: int
    top: int
    width: int
    height: int
    mode: str
    data: bytes

    def image(self) -> Image.Image:
        """The band as a picture over the same memory, not a copy of it."""
        return Image.frombuffer(self.mode, (self.width, self.height), self.data, "raw", self.mode, 0, 1)


def size(data: bytes, *, scale: int = 1) -> tuple[int, int]:
    """(width, height) px of the picture at 1/scale. Raises Undecoded."""
    try:
        return _regions.size(data, scale)
    except _regions.Refusal as refusal:
        raise Undecoded(*refusal.args) from None


def decode(data: bytes, boxes: Iterable[Box], *, margin: int = MARGIN, scale: int = 1) -> list[Band]:
    """Bands from top to bottom, all of the same columns; each box lies in one of them.

    Boxes are (left, top, right, bottom) in pixels of the picture as stored, at 1/scale (1, 2, 4, 8), right and bottom
    just outside. ``margin`` pixels around them are decoded too: next to an edge of what is decoded, chroma is
    interpolated without its neighbours, so less than 2 is not exact.
    Raises Undecoded, and ValueError for boxes that are empty or stick out of the picture.
    """
    try:
        columns, rows = plan(list(boxes), *_regions.size(data, scale), margin=margin)
        mode, left, width, pixels = _regions.decode(data, scale, columns, rows)
    except _regions.Refusal as refusal:
        raise Undecoded(*refusal.args) from None
    return [
        Band(left, top, width, bottom - top, mode, piece) for (top, bottom), piece in zip(rows, pixels, strict=True)
    ]


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

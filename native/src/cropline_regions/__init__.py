"""The parts of a JPEG that boxes need, without decoding the rest: the same pixels as Pillow's, for less.

    bands = decode(data, [(left, top, right, bottom), ...])
    crop = bands[0].image((left, top, right, bottom))  # no copy

Belongs here: the two ways of it, and pictures over what was decoded. Does not: what is decoded for which boxes (_plan.py),
bits (src/_cut.c), libjpeg (src/_regions.c), EXIF or colour.

Cuts: the boxes' bits are copied out of the photo's, and each is decoded as a JPEG of its own. Bands: libjpeg decodes the rows and
columns that hold boxes, and skips the rows between. Cuts are tried first where they cost less; what they do not take, bands may.

Importing raises ImportError when the JPEG library of this Pillow cannot be used; its message says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from PIL import Image, _imaging

from cropline_regions import _plan, _regions
from cropline_regions._plan import MARGIN, Box

__all__ = ["MARGIN", "Band", "Box", "Undecoded", "decode", "size", "walk"]

walk = _regions.walk

# libjpeg begins at a whole block of the coarsest sampling (4 x 8 px) and so may decode more columns on the left.
_WIDENED = 32

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
        return _regions.size(data, scale)[:2]
    except _regions.Refusal as refusal:
        raise Undecoded(*refusal.args) from None


def decode(
    data: bytes,
    boxes: Iterable[Box],
    *,
    margin: int = MARGIN,
    scale: int = 1,
    memory: Callable[[int], bytearray] = bytearray,
    way: Literal["cuts", "bands"] | None = None,
) -> list[Band]:
    """For each box in turn the band that it lies in. Boxes may share one.

    Boxes are (left, top, right, bottom) in pixels of the picture as stored, at 1/scale (1, 2, 4, 8), right and bottom
    just outside. ``margin`` pixels around them are decoded too: next to an edge of what is decoded, chroma is
    interpolated without its neighbours, so less than 2 is not exact for bands, nor less than 4 for cuts. ``memory`` gives
    at least so many bytes to decode into; what gives the same again ends the bands that were there. ``way``: this one and no
    other.
    Raises Undecoded, and ValueError for boxes that are empty or stick out of the picture.
    """
    boxes = list(boxes)
    try:
        picture = _plan.Picture(*_regions.size(data, scale))
        _plan.checked(boxes, picture, margin)
        bands, cuts = _plan.bands(boxes, picture, margin), _plan.cuts(boxes, picture, margin)
        if way != "bands" and (way or (margin >= MARGIN and _plan.cuts_cost_less(cuts, bands, picture))):
            try:
                return _decode_cuts(data, scale, cuts, memory)
            except _regions.Refusal:
                if way:
                    raise
        return _decode_bands(data, scale, boxes, bands, memory)
    except _regions.Refusal as refusal:
        raise Undecoded(*refusal.args) from None


def _decode_cuts(data: bytes, scale: int, cuts: _plan.Cuts, memory: Callable[[int], bytearray]) -> list[Band]:
    room = memory(_bytes([(right - left, bottom - top) for left, top, right, bottom in cuts.rectangles]))
    mode = _regions.cut(data, scale, cuts.rectangles, room)
    found = _placed(cuts.rectangles, mode, room)
    return [found[number] for number in cuts.holds]


def _decode_bands(
    data: bytes, scale: int, boxes: Sequence[Box], bands: _plan.Bands, memory: Callable[[int], bytearray]
) -> list[Band]:
    (left, right), rows = bands
    room = memory(_bytes([(right - left + _WIDENED, bottom - top) for top, bottom in rows]))
    mode, left, width = _regions.decode(data, scale, bands.columns, rows, room)
    found = _placed([(left, top, left + width, bottom) for top, bottom in rows], mode, room)
    return [found[_plan.band_of(box, rows)] for box in boxes]


def _bytes(sizes: Sequence[tuple[int, int]]) -> int:
    """What they need at most. One row more: a picture is mapped by whole strides, also that of a box in a last row."""
    return 4 * (sum(width * height for width, height in sizes) + max(width for width, _ in sizes))


def _placed(rectangles: Sequence[Box], mode: str, memory: bytearray) -> list[Band]:
    """The bands of these rectangles, which stand in the memory one behind the other."""
    found: list[Band] = []
    offset = 0
    for left, top, right, bottom in rectangles:
        band = Band(left, top, right - left, bottom - top, mode, memory, offset)
        found.append(band)
        offset += band.stride * band.height
    return found

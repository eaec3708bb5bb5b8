"""Decodes only the parts of a JPEG that boxes need, to the same pixels as Pillow, at a lower cost.

    bands = decode(data, [(left, top, right, bottom), ...])
    crop = bands[0].image((left, top, right, bottom))  # no copy

This module chooses the method and makes images over the decoded memory. _plan.py plans what is decoded,
src/_cut.c handles bits, src/_regions.c calls libjpeg. EXIF and colour are the caller's.

Cuts: the bits of each box are copied out of the photo and decoded as a separate JPEG. Bands: libjpeg
decodes the rows and columns that hold boxes, and skips the rows between. Cuts are tried first where they
cost less; a photo that cannot be cut may still be decoded in bands.

Pieces: rectangles of a JPEG become files with the same bits; nothing is decoded (_pieces.py).

Importing raises ImportError when this Pillow's JPEG library cannot be used; its message says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from PIL import Image, _imaging

from cropline_regions import _plan, _regions
from cropline_regions._pieces import Pieces, Turn, Turning
from cropline_regions._plan import MARGIN, Box
from cropline_regions._undecoded import Undecoded

__all__ = [
    "MARGIN",
    "Band",
    "Box",
    "Measured",
    "Pieces",
    "Turn",
    "Turning",
    "Undecoded",
    "View",
    "decode",
    "scan_damage",
    "size",
    "walk",
]

walk = _regions.walk
scan_damage = _regions.scan_damage

# libjpeg starts at a whole block of the coarsest sampling (4 x 8 px), so it may decode more columns on the left.
_WIDENED = 32

try:
    _regions.bind(_imaging.__file__)
except OSError as error:
    raise ImportError(str(error)) from None


class Band(NamedTuple):
    """A rectangle of the picture, in pixels. Its rows are in ``memory`` from ``offset`` on, without padding: 4 bytes
    per pixel where ``mode`` is RGB, as in Pillow, 1 where it is L. Valid until the memory is used again."""

    left: int
    top: int
    width: int
    height: int
    mode: str
    memory: bytearray
    offset: int

    @property
    def stride(self) -> int:
        """Bytes per row."""
        return self.width * (1 if self.mode == "L" else 4)

    @property
    def data(self) -> memoryview:
        """The band's rows."""
        return memoryview(self.memory)[self.offset : self.offset + self.stride * self.height]

    def image(self, box: Box | None = None) -> View:
        """Return the band, or this box of the picture inside it, as an image over the same memory, without a copy.

        Raise ValueError for a box that is empty or not inside the band.
        """
        across, down, width, height, mode, memory, first = self
        pixel = 1 if mode == "L" else 4
        stride = width * pixel
        if box is None:
            return View(memory, first, stride, (width, height), mode)
        left, top, right, bottom = box
        if not (across <= left < right <= across + width and down <= top < bottom <= down + height):
            raise ValueError(f"{box} is empty or sticks out of {(across, down, across + width, down + height)}")
        first += (top - down) * stride + (left - across) * pixel
        return View(memory, first, stride, (right - left, bottom - top), mode)


class Measured(NamedTuple):
    """Measures of an RGB picture, equal to those of Pillow's steps.

    ``sample``: the luma of a regular grid of its pixels, row by row; ``total``: its sum. ``squares``: the sum of the
    squares of the Laplacian of the luma in its middle, each limited to -128..127; 0 for less than 3 x 3 px.
    """

    sample: bytes
    total: int
    squares: int


class View(Image.Image):
    """A part of a band as an image over the same memory. Pillow copies it before it draws into it."""

    def __init__(self, memory: bytearray, first: int, stride: int, size: tuple[int, int], mode: str) -> None:
        super().__init__()
        # Image.frombuffer takes whole buffers only, and not RGB, which has four bytes per pixel only inside Pillow.
        self.im = self._mapped = Image.core.map_buffer(memory, size, "raw", first, (mode, stride, 1))
        self._mode, self._size, self._place = mode, size, (memory, first, stride)
        self.readonly = 1

    def measured(self, grid: int, window: int) -> Measured | None:
        """Return the measures of a grid and of a window of at most so many pixels a side (64). None for greys, and when
        the image has other pixels than the band's by now."""
        if self._mode != "RGB" or self._im is not self._mapped:
            return None
        return Measured(*_regions.measure(*self._place, self._size, grid, window))

    def __eq__(self, other: object) -> bool:
        # Pillow compares the classes first.
        return self.copy() == (other.copy() if isinstance(other, View) else other)


try:
    View(bytearray(8), 4, 4, (1, 1), "RGB")
except (AttributeError, TypeError, ValueError) as error:
    raise ImportError(f"this Pillow does not map memory as RGB: {error}") from None


def size(data: bytes, *, scale: int = 1) -> tuple[int, int]:
    """Return (width, height) px of the picture at 1/scale. Raise Undecoded."""
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
    """Return for each box the band that contains it. Boxes may share one.

    Boxes are (left, top, right, bottom) in pixels of the stored picture at 1/scale (1, 2, 4, 8), right and
    bottom exclusive. ``margin`` pixels around them are decoded too: chroma next to a decoded edge is
    interpolated without its neighbours, so less than 2 is not exact for bands, nor less than 4 for cuts.
    ``memory`` returns a buffer of at least the given size; returning the same buffer again invalidates its
    earlier bands. ``way``: use only this method.
    Raise Undecoded, and ValueError for boxes that are empty or not inside the picture.
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
    """Return the bytes that they need at most, with one extra row: pictures are mapped by whole strides."""
    return 4 * (sum(width * height for width, height in sizes) + max(width for width, _ in sizes))


def _placed(rectangles: Sequence[Box], mode: str, memory: bytearray) -> list[Band]:
    """Return the bands of these rectangles, which follow each other in the memory."""
    found: list[Band] = []
    offset = 0
    for left, top, right, bottom in rectangles:
        band = Band(left, top, right - left, bottom - top, mode, memory, offset)
        found.append(band)
        offset += band.stride * band.height
    return found

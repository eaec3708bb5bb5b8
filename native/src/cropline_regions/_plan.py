"""Which parts of a picture are decoded for which boxes, as bands or as cuts, and which of the two costs less.

Belongs here: rectangles. Does not: bytes and pixels.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

# Around a box, in pixels: chroma comes from the next sample, two pixels away, and otherwise where a row holds no more than
# two of them.
MARGIN = 4
# Bands nearer than this are one. Below 32 rows jpeg_skip_scanlines itself gives wrong rows where chroma is sampled by four
# (libjpeg-turbo issue 915); at 16 to 128 the cost is within a twentieth of the same.
MERGED = 32

Box = tuple[int, int, int, int]


class Picture(NamedTuple):
    """Its size, and that of an MCU, in pixels at the scale of the boxes."""

    width: int
    height: int
    across: int
    down: int


class Bands(NamedTuple):
    columns: tuple[int, int]
    rows: tuple[tuple[int, int], ...]


class Cuts(NamedTuple):
    """Rectangles from whole MCUs on, and for each box the number of the one that it lies in."""

    rectangles: tuple[Box, ...]
    holds: tuple[int, ...]


def checked(boxes: Sequence[Box], picture: Picture, margin: int) -> None:
    """Raises ValueError for what cannot be decoded."""
    if margin < 0:
        raise ValueError("the margin is negative")
    if not boxes:
        raise ValueError("no boxes")
    width, height = picture[:2]
    for left, top, right, bottom in boxes:
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(f"{(left, top, right, bottom)} is empty or sticks out of {width} x {height} px")


def bands(boxes: Sequence[Box], picture: Picture, margin: int) -> Bands:
    """The columns and rows that hold the boxes with their margins."""
    columns = max(0, min(box[0] for box in boxes) - margin), min(picture.width, max(box[2] for box in boxes) + margin)
    rows: list[tuple[int, int]] = []
    for top, bottom in sorted((max(0, box[1] - margin), min(picture.height, box[3] + margin)) for box in boxes):
        if rows and top - rows[-1][1] < MERGED:
            rows[-1] = rows[-1][0], max(rows[-1][1], bottom)
        else:
            rows.append((top, bottom))
    return Bands(columns, tuple(rows))


def band_of(box: Box, rows: Sequence[tuple[int, int]]) -> int:
    """The number of the band that the box lies in."""
    return bisect_right(rows, box[1], key=itemgetter(0)) - 1


def cuts(boxes: Sequence[Box], picture: Picture, margin: int) -> Cuts:
    """A rectangle for each box with its margin; boxes share one where it has no more pixels than two would."""
    found: list[Box] = []
    holds = [0] * len(boxes)
    beside: list[int] = []
    wanted = [_cut(box, picture, margin) for box in boxes]
    for number in sorted(range(len(wanted)), key=wanted.__getitem__):
        left, top, right, bottom = cut = wanted[number]
        # From left to right: those that ended before can be forgotten.
        beside = [other for other in beside if found[other][2] > left]
        for other in beside:
            has = found[other]
            both = has[0], min(has[1], top), max(has[2], right), max(has[3], bottom)
            if _pixels(both) <= _pixels(has) + _pixels(cut):
                found[other] = both
                holds[number] = other
                break
        else:
            holds[number] = len(found)
            beside.append(len(found))
            found.append(cut)
    return Cuts(tuple(found), tuple(holds))


def cuts_cost_less(cuts: Cuts, bands: Bands, picture: Picture) -> bool:
    """A pixel of a cut costs about twice what one of a band does, since its bits are read twice; every pixel above the last
    box costs half as much more to skip for bands than for cuts. docs/decisions/0014-beyond-bands.md"""
    (left, right), rows = bands
    in_bands = (right - left) * sum(bottom - top for top, bottom in rows)
    return 2 * sum(map(_pixels, cuts.rectangles)) < in_bands + picture.width * rows[-1][1] // 2


def _cut(box: Box, picture: Picture, margin: int) -> Box:
    left, top = max(0, box[0] - margin), max(0, box[1] - margin)
    right, bottom = min(picture.width, box[2] + margin), min(picture.height, box[3] + margin)
    return left - left % picture.across, top - top % picture.down, right, bottom


def _pixels(rectangle: Box) -> int:
    left, top, right, bottom = rectangle
    return (right - left) * (bottom - top)

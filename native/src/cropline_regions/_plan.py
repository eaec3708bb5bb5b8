"""Plans which rectangles are decoded for which boxes, as bands or as cuts, and which of the two costs less."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

# Pixels around a box: chroma is interpolated from the next sample, two pixels away. Rows of at most two
# samples are interpolated differently.
MARGIN = 4
# Bands nearer than this are merged. Below 32 rows jpeg_skip_scanlines itself gives wrong rows where chroma
# is sampled by four (libjpeg-turbo issue 915). From 16 to 128 the cost differs by less than a twentieth.
MERGED = 32

Box = tuple[int, int, int, int]


class Picture(NamedTuple):
    """The size of a picture and of its MCUs, in pixels at the scale of the boxes."""

    width: int
    height: int
    across: int
    down: int


class Bands(NamedTuple):
    columns: tuple[int, int]
    rows: tuple[tuple[int, int], ...]


class Cuts(NamedTuple):
    """Rectangles that start at whole MCUs, and for each box the number of its rectangle."""

    rectangles: tuple[Box, ...]
    holds: tuple[int, ...]


def checked(boxes: Sequence[Box], picture: Picture, margin: int) -> None:
    """Raise ValueError for boxes that cannot be decoded."""
    if margin < 0:
        raise ValueError("the margin is negative")
    if not boxes:
        raise ValueError("no boxes")
    width, height = picture[:2]
    for left, top, right, bottom in boxes:
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(f"{(left, top, right, bottom)} is empty or sticks out of {width} x {height} px")


def bands(boxes: Sequence[Box], picture: Picture, margin: int) -> Bands:
    """Return the columns and rows that hold the boxes with their margins."""
    columns = max(0, min(box[0] for box in boxes) - margin), min(picture.width, max(box[2] for box in boxes) + margin)
    rows: list[tuple[int, int]] = []
    for top, bottom in sorted((max(0, box[1] - margin), min(picture.height, box[3] + margin)) for box in boxes):
        if rows and top - rows[-1][1] < MERGED:
            rows[-1] = rows[-1][0], max(rows[-1][1], bottom)
        else:
            rows.append((top, bottom))
    return Bands(columns, tuple(rows))


def band_of(box: Box, rows: Sequence[tuple[int, int]]) -> int:
    """Return the number of the band that contains the box."""
    return bisect_right(rows, box[1], key=itemgetter(0)) - 1


def cuts(boxes: Sequence[Box], picture: Picture, margin: int) -> Cuts:
    """Return a rectangle per box with its margin. Boxes share one where it has no more pixels than two would."""
    found: list[Box] = []
    holds = [0] * len(boxes)
    beside: list[int] = []
    wanted = [_cut(box, picture, margin) for box in boxes]
    for number in sorted(range(len(wanted)), key=wanted.__getitem__):
        left, top, right, bottom = cut = wanted[number]
        # From left to right: earlier ones that ended need not be considered.
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
    """Return whether cuts cost less. A pixel of a cut costs about twice as much as one of a band, since its bits are read
    twice. A pixel above the last box costs bands half as much again to skip. docs/decisions/0014-beyond-bands.md"""
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

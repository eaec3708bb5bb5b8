"""One slot of a shelf over time: the box of each photo of a camera that shows the same place.

A slot begins at one box. In every other photo of the camera it is the box that overlaps it most, after the photo's
boxes were moved as a whole to fit (a nudged camera). A box id alone does not decide: many APIs number boxes anew in each
photo. It breaks ties.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

Row = dict[str, Any]
Edges = tuple[float, float, float, float]

SAME = 0.4  # intersection over union from which two boxes show the same place
_ID_BONUS = 0.05
_NUDGE = 0.15  # of the picture's side; a camera that moved more shows other places
_PAIRS = 3  # boxes that must agree on a nudge


@dataclass(frozen=True)
class Moment:
    """One photo of the camera. ``row``: the slot's row, None when no box shows it.

    ``why``: reason that there is no crop, "" when there is one. ``moved``: how far the camera had moved (x, y), as
    fractions of the picture. ``change``: 0 to 1, how much the crop differs from the one before; None where there is none
    before, or until pictures were compared.
    """

    captured_at: datetime
    image_id: str
    row: Row | None
    why: str
    moved: tuple[float, float] = (0.0, 0.0)
    change: float | None = None


def timeline(rows: Sequence[Row], start: Row) -> list[Moment]:
    """Return the slot's moments, oldest first.

    rows: one camera's rows, ordered by captured_at. start: the row of the box where the slot begins. Only rows of its
    profile count.
    """
    edges = _edges(start)
    if edges is None:
        return []
    ours = [row for row in rows if row["profile"] == start["profile"]]
    photos = [list(group) for _, group in groupby(ours, key=lambda row: (row["captured_at"], row["image_id"]))]
    home = next((photo for photo in photos if photo[0]["image_id"] == start["image_id"]), [start])
    return [_moment(photo, start, edges, home) for photo in photos]


def _moment(photo: list[Row], start: Row, edges: Edges, home: list[Row]) -> Moment:
    first = photo[0]
    moved = nudge([row for row in home if _edges(row)], [row for row in photo if _edges(row)])
    best, found = 0.0, None
    for row in photo:
        here = _edges(row)
        if here is None:
            continue
        overlap = iou(edges, _moved(here, (-moved[0], -moved[1])))
        bonus = _ID_BONUS if row["box_id"] == start["box_id"] and overlap >= SAME else 0.0
        if overlap >= SAME and overlap + bonus > best:
            best, found = overlap + bonus, row
    base = Moment(first["captured_at"], first["image_id"], found, "", moved)
    if found is not None:
        gone = "" if found["status"] == "written" else f"{found['status']}: {found['reason']}"
        return replace(base, why=gone)
    whole = {row["reason"] for row in photo if row["status"] != "written"}
    if all(row["status"] != "written" for row in photo) and len(whole) == 1:
        return replace(base, why=f"the whole photo failed: {whole.pop()}")
    return replace(base, why="no box here")


def iou(one: Edges, other: Edges) -> float:
    """Return intersection over union of two boxes (xmin, ymin, xmax, ymax), 0 to 1."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    common = wide * high
    return common / (_area(one) + _area(other) - common)


def nudge(home: Sequence[Row], photo: Sequence[Row]) -> tuple[float, float]:
    """Return how far all boxes of a photo lie from those of the first, as (x, y): the camera was moved.

    It is the median over boxes of nearly one size and the smallest distance. Too few that agree: (0, 0).
    """
    shifts: list[tuple[float, float]] = []
    for row in photo:
        here = _edges(row)
        near = [_edges(other) for other in home if other["label"] == row["label"]]
        pairs = [(there, here) for there in near if there and here and _alike(there, here)]
        if pairs:
            there, here = min(pairs, key=lambda pair: max(map(abs, _shift(*pair))))
            shifts.append(_shift(there, here))
    close = [shift for shift in shifts if max(map(abs, shift)) <= _NUDGE]
    if len(close) < _PAIRS:
        return 0.0, 0.0
    x, y = (statistics.median(shift[axis] for shift in close) for axis in (0, 1))
    agree = sum(abs(shift[0] - x) < 0.02 and abs(shift[1] - y) < 0.02 for shift in close)
    return (x, y) if 2 * agree > len(close) else (0.0, 0.0)


def _shift(there: Edges, here: Edges) -> tuple[float, float]:
    return (here[0] + here[2] - there[0] - there[2]) / 2, (here[1] + here[3] - there[1] - there[3]) / 2


def _alike(one: Edges, other: Edges) -> bool:
    wide, high = (one[2] - one[0]) / (other[2] - other[0]), (one[3] - one[1]) / (other[3] - other[1])
    return 0.8 < wide < 1.25 and 0.8 < high < 1.25


def _moved(edges: Edges, by: tuple[float, float]) -> Edges:
    return edges[0] + by[0], edges[1] + by[1], edges[2] + by[0], edges[3] + by[1]


def _area(edges: Edges) -> float:
    return (edges[2] - edges[0]) * (edges[3] - edges[1])


def _edges(row: Row) -> Edges | None:
    """Return the box as fractions of the picture, from its pixels; None where the photo was never opened."""
    wide, high = row["image_width"], row["image_height"]
    if not wide or not high or row["left"] is None:
        return None
    left, top, right, bottom = row["left"] / wide, row["top"] / high, row["right"] / wide, row["bottom"] / high
    return (left, top, right, bottom) if right > left and bottom > top else None


def most_changed(moments: Sequence[Moment], share: float = 0.1) -> set[int]:
    """Return the positions of the moments that changed most: at most this share, and never small changes."""
    changed = sorted(((m.change or 0.0, at) for at, m in enumerate(moments)), reverse=True)
    return {at for change, at in changed[: max(1, round(share * len(moments)))] if change >= 0.15}


def csv_rows(moments: Sequence[Moment]) -> Iterator[list[str]]:
    """Yield a header and one line per moment, as text."""
    yield ["captured_at", "image_id", "box_id", "label", "status", "why", "key", "change", "moved_x", "moved_y"]
    for moment in moments:
        row = moment.row or {}
        yield [
            moment.captured_at.isoformat(),
            moment.image_id,
            str(row.get("box_id") or ""),
            str(row.get("label") or ""),
            str(row.get("status") or "none"),
            moment.why,
            str(row.get("key") or ""),
            "" if moment.change is None else f"{moment.change:.3f}",
            *(f"{part:.4f}" for part in moment.moved),
        ]

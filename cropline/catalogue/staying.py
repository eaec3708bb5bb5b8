"""Good crops that stay: a failure never replaces the good row of its box. Functions of their arguments alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue.rows import CATALOGUE, ORDER, PARTITION, RECROP, ImageProfile

# A box is the same as before when its id and its place are, whatever the version of the photo or the recipe.
_BOX = ("source", "image_id", "profile", "box_id", "xmin", "ymin", "xmax", "ymax")

# What is known of the photo and its store today, though the crop is of before.
_METADATA = (
    "store_id", "camera_id", "captured_at", PARTITION, "store_name", "city", "region", "store_format", "score",
)  # fmt: skip


def stay(rows: pa.Table, current: pa.Table) -> pa.Table:
    """The rows that a batch commits, with the good current row in the place of each failure of the same box.

    ``rows``, ``current``: CATALOGUE. Such a row says everything of the crop that exists, and in the columns RECROP what went
    wrong when it was to be cut again. Of the batch it has what the batch is known by: batch_id, attempt and box_index.
    """
    failed = rows.filter(pc.field("status") == "failed")
    good = _good(current) if len(failed) else {}
    told = [(row, _taken(good, row)) for row in failed.to_pylist()] if good else []
    if not any(kept for _, kept in told):
        return rows
    again = pa.Table.from_pylist([_told(row, kept) for row, kept in told], schema=CATALOGUE)
    return pa.concat_tables([rows.filter(pc.field("status") != "failed"), again]).sort_by(ORDER)


def newest(rows: pa.Table) -> pa.Table:
    """Of rows in which works stand several times, by several batches, those that are right: the newest, and good before failed."""
    by_work: dict[ImageProfile, dict[str, list[dict[str, Any]]]] = {}
    for row in rows.to_pylist():
        work = by_work.setdefault((row["source"], row["image_id"], row["profile"]), {})
        work.setdefault(row["batch_id"], []).append(row)
    chosen = []
    for batches in by_work.values():
        last, *earlier = sorted(batches.values(), key=_told_at, reverse=True)
        table = pa.Table.from_pylist(last, schema=CATALOGUE)
        for older in earlier:
            table = stay(table, pa.Table.from_pylist(older, schema=CATALOGUE))
        chosen.append(table)
    return pa.concat_tables([CATALOGUE.empty_table(), *chosen])


def _told_at(rows: list[dict[str, Any]]) -> tuple[datetime, str]:
    """When a batch was committed, by its rows: one that stayed has the time of its crop, and that of the failure beside it."""
    return max(row["recrop_failed_at"] or row["committed_at"] for row in rows), rows[0]["batch_id"]


def _good(current: pa.Table) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Written rows by box, the newest last."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in current.filter(pc.field("status") == "written").sort_by("committed_at").to_pylist():
        found.setdefault(tuple(row[name] for name in _BOX), []).append(row)
    return found


def _taken(good: dict[tuple[Any, ...], list[dict[str, Any]]], failed: dict[str, Any]) -> dict[str, Any] | None:
    """The good row of the box. Boxes that share an id and a place have one each: no crop has two rows."""
    rows = good.get(tuple(failed[name] for name in _BOX))
    if not rows:
        return None
    same = [row for row in rows if row["box_index"] == failed["box_index"]]
    chosen = same[-1] if same else rows[-1]
    # All rows of this crop go: a catalogue that was doubled names it twice.
    rows[:] = [row for row in rows if row["key"] != chosen["key"]]
    return chosen


def _told(failed: dict[str, Any], kept: dict[str, Any] | None) -> dict[str, Any]:
    if kept is None:
        return failed
    batch = {name: failed[name] for name in ("batch_id", "attempt", "box_index", "retry_after_s", *_METADATA)}
    why = zip(RECROP, (failed["reason"], failed["detail"], failed["committed_at"]), strict=True)
    return kept | batch | dict(why)

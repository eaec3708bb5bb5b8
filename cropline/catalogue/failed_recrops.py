"""Good crops stay: a failure never replaces the good row of its box. Pure functions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue.rows import ORDER, PARTITION, RECROP, ImageProfile, joined

# A box is the same when its id and its place are, for any version of the photo and any recipe.
_BOX = ("source", "image_id", "profile", "box_id", "xmin", "ymin", "xmax", "ymax")

# Columns with today's metadata of the photo and its store, also in the row of an older crop.
_METADATA = (
    "store_id", "camera_id", "captured_at", PARTITION, "store_name", "city", "region", "store_format", "score",
)  # fmt: skip


def stay(rows: pa.Table, current: pa.Table) -> pa.Table:
    """Return the rows that a batch commits: each failure is replaced by the good current row of the same box.

    ``rows``, ``current``: CATALOGUE. Such a row describes the existing crop. Its RECROP columns say why the new attempt
    failed, and its batch_id, attempt and box_index are those of the batch.
    """
    failed = rows.filter(pc.field("status") == "failed")
    good = _good(current) if len(failed) else {}
    told = [(row, _taken(good, row)) for row in failed.to_pylist()] if good else []
    if not any(kept for _, kept in told):
        return rows
    schema = pa.unify_schemas([rows.schema, current.schema])
    again = pa.Table.from_pylist([_told(row, kept) for row, kept in told], schema=schema)
    return joined([rows.filter(pc.field("status") != "failed"), again]).sort_by(ORDER)


def newest(rows: pa.Table) -> pa.Table:
    """Return the valid rows when several batches left rows of one work item: the newest, good before failed."""
    by_work: dict[ImageProfile, dict[str, list[dict[str, Any]]]] = {}
    for row in rows.to_pylist():
        work = by_work.setdefault((row["source"], row["image_id"], row["profile"]), {})
        work.setdefault(row["batch_id"], []).append(row)
    chosen = []
    for batches in by_work.values():
        last, *earlier = sorted(batches.values(), key=_told_at, reverse=True)
        table = pa.Table.from_pylist(last, schema=rows.schema)
        for older in earlier:
            table = stay(table, pa.Table.from_pylist(older, schema=rows.schema))
        chosen.append(table)
    return joined(chosen)


def _told_at(rows: list[dict[str, Any]]) -> tuple[datetime, str]:
    """Return the commit time of a batch from its rows.

    A row that stayed has its crop's time, and that of the failure.
    """
    return max(row["recrop_failed_at"] or row["committed_at"] for row in rows), rows[0]["batch_id"]


def _good(current: pa.Table) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Return written rows by box, the newest last."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in current.filter(pc.field("status") == "written").sort_by("committed_at").to_pylist():
        found.setdefault(tuple(row[name] for name in _BOX), []).append(row)
    return found


def _taken(good: dict[tuple[Any, ...], list[dict[str, Any]]], failed: dict[str, Any]) -> dict[str, Any] | None:
    """Return the good row of the box. Boxes that share an id and a place get one each: no crop has two rows."""
    rows = good.get(tuple(failed[name] for name in _BOX))
    if not rows:
        return None
    same = [row for row in rows if row["box_index"] == failed["box_index"]]
    chosen = same[-1] if same else rows[-1]
    # Remove all rows of this crop: a catalogue with duplicates has it twice.
    rows[:] = [row for row in rows if row["key"] != chosen["key"]]
    return chosen


def _told(failed: dict[str, Any], kept: dict[str, Any] | None) -> dict[str, Any]:
    if kept is None:
        return failed
    batch = {name: failed[name] for name in ("batch_id", "attempt", "box_index", "retry_after_s", *_METADATA)}
    why = zip(RECROP, (failed["reason"], failed["detail"], failed["committed_at"]), strict=True)
    return kept | batch | dict(why)

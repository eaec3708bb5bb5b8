"""Rows that a batch takes over name the pack in which they found their crop; an erasure may have moved the crop since.

Belongs here: telling such rows anew, in the commit that brings them. Does not: moving crops (cropline/erasure).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue.rows import scan_images

if TYPE_CHECKING:
    from deltalake import DeltaTable

_PLACE = ["key", "shard", "offset"]


def with_current_places(table: DeltaTable, rows: pa.Table, batch_id: str) -> pa.Table:
    """The batch's rows with shard and offset as this version of the table has them for the same crops.

    A commit that moves one of them after this version conflicts with the batch's, which then looks again.
    """
    own = pc.match_substring(pc.fill_null(rows["shard"], ""), f"/{batch_id}/")
    others = rows.filter(pc.and_(pc.is_valid(rows["shard"]), pc.invert(own)))
    if not len(others):
        return rows
    place = {key: (shard, offset) for key, shard, offset in _places(table, others) if shard}
    found = [place.get(row["key"], (row["shard"], row["offset"])) for row in rows.select(_PLACE).to_pylist()]
    for position, name in enumerate(_PLACE[1:]):
        field = rows.schema.field(name)
        rows = rows.set_column(
            rows.schema.get_field_index(name), field, pa.array([p[position] for p in found], field.type)
        )
    return rows


def _places(table: DeltaTable, rows: pa.Table) -> Iterator[tuple[str, str | None, int | None]]:
    """(key, shard, offset) of what this version has of the photos of these rows."""
    for source in rows["source"].unique().to_pylist():
        images = rows.filter(pc.equal(rows["source"], source))["image_id"].unique().to_pylist()
        now = scan_images(table, source, images)
        yield from zip(*(now[name].to_pylist() for name in _PLACE), strict=True)

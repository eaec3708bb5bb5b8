"""Rows that a batch takes over name the pack in which they found their crop; an erasure may have moved the crop since.

Belongs here: telling such rows anew, in the commit that brings them. Does not: moving crops (cropline/erasure).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue.rows import among, scan

if TYPE_CHECKING:
    from deltalake import DeltaTable

_PLACE = ["key", "shard", "offset"]


def where_they_lie(table: DeltaTable, rows: pa.Table, batch_id: str) -> pa.Table:
    """The batch's rows with shard and offset as this version of the table has them for the same crops.

    A commit that moves one of them after this version conflicts with the batch's, which then looks again.
    """
    own = pc.match_substring(pc.fill_null(rows["shard"], ""), f"/{batch_id}/")
    others = rows.filter(pc.and_(pc.is_valid(rows["shard"]), pc.invert(own)))
    if not len(others):
        return rows
    now = scan(table, among("key", others["key"].to_pylist()))
    place = {row["key"]: (row["shard"], row["offset"]) for row in now.to_pylist() if row["shard"]}
    found = [place.get(row["key"], (row["shard"], row["offset"])) for row in rows.select(_PLACE).to_pylist()]
    for position, name in enumerate(_PLACE[1:]):
        field = rows.schema.field(name)
        rows = rows.set_column(
            rows.schema.get_field_index(name), field, pa.array([p[position] for p in found], field.type)
        )
    return rows

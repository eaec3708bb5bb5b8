"""Update the pack places in rows that reuse crops: an erasure may have moved a crop since the batch read its row."""

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
    """Return the batch's rows with shard and offset of the same crops in this version of the table.

    A later commit that moves one of them conflicts with the batch's commit, which then looks again.
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
    """Yield (key, shard, offset) of this version's rows of the same images."""
    for source in rows["source"].unique().to_pylist():
        images = rows.filter(pc.equal(rows["source"], source))["image_id"].unique().to_pylist()
        now = scan_images(table, source, images)
        yield from zip(*(now[name].to_pylist() for name in _PLACE), strict=True)

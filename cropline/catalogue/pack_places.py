"""Update the pack places in rows that reuse crops: an erasure may have moved a crop since the batch read its row."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue.files import Snapshot
from cropline.catalogue.positions import Found, rows_of

_PLACE = ["key", "shard", "offset"]


def with_current_places(snapshot: Snapshot, rows: pa.Table, batch_id: str, found: Sequence[Found]) -> pa.Table:
    """Return the batch's rows with shard and offset of the same crops in this version of the table.

    ``found``: the rows that the batch replaces. Those that it reuses are among them. A later commit that moves one of
    them conflicts with the batch's commit, which then looks again.
    """
    own = pc.match_substring(pc.fill_null(rows["shard"], ""), f"/{batch_id}/")
    others = rows.filter(pc.and_(pc.is_valid(rows["shard"]), pc.invert(own)))
    if not len(others) or not found:
        return rows
    images = set(others["image_id"].to_pylist())
    held = [
        part for whole in found if (part := whole.only({w for w in whole.all_works() if w[1] in images})) is not None
    ]
    now = rows_of(snapshot, held, _PLACE)
    place = {
        key: (shard, offset)
        for key, shard, offset in zip(*(now[name].to_pylist() for name in _PLACE), strict=True)
        if shard
    }
    places = [place.get(row["key"], (row["shard"], row["offset"])) for row in rows.select(_PLACE).to_pylist()]
    for position, name in enumerate(_PLACE[1:]):
        field = rows.schema.field(name)
        rows = rows.set_column(
            rows.schema.get_field_index(name), field, pa.array([p[position] for p in places], field.type)
        )
    return rows

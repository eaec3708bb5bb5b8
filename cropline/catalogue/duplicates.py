"""Find work items with current rows of several batches, as earlier versions could leave them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from cropline.catalogue.rows import ImageProfile

if TYPE_CHECKING:
    from deltalake import DeltaTable

_IMAGES_A_COMMIT = 500


def duplicated(table: DeltaTable) -> list[ImageProfile]:
    """Return the work items with rows of more than one batch. Reads four columns of the whole table."""
    from deltalake import QueryBuilder

    query = "SELECT source, image_id, profile FROM crops GROUP BY 1, 2, 3 HAVING count(DISTINCT batch_id) > 1"
    found = pa.table(QueryBuilder().register("crops", table).execute(query))
    return sorted(zip(*(found[name].to_pylist() for name in ("source", "image_id", "profile")), strict=True))


def portions(works: list[ImageProfile]) -> Iterator[set[ImageProfile]]:
    """Yield the work items in portions whose rows fit in memory in one commit."""
    for start in range(0, len(works), _IMAGES_A_COMMIT):
        yield set(works[start : start + _IMAGES_A_COMMIT])

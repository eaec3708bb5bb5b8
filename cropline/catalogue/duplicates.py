"""Works that stand in the table by several batches at once, as versions before this one could leave them: found and mended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from cropline.catalogue.rows import ImageProfile

if TYPE_CHECKING:
    from deltalake import DeltaTable

_IMAGES_A_COMMIT = 500


def duplicated(table: DeltaTable) -> list[ImageProfile]:
    """The works with rows of more than one batch. Reads four columns of the whole table."""
    from deltalake import QueryBuilder

    query = "SELECT source, image_id, profile FROM crops GROUP BY 1, 2, 3 HAVING count(DISTINCT batch_id) > 1"
    found = pa.table(QueryBuilder().register("crops", table).execute(query))
    return sorted(zip(*(found[name].to_pylist() for name in ("source", "image_id", "profile")), strict=True))


def portions(works: list[ImageProfile]) -> Iterator[set[ImageProfile]]:
    """The works, so many at a time that a commit holds their rows in memory."""
    for start in range(0, len(works), _IMAGES_A_COMMIT):
        yield set(works[start : start + _IMAGES_A_COMMIT])

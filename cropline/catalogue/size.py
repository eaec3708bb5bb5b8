"""How large the catalogue is, from its log: no data file is read."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from cropline.catalogue import delta
from cropline.core.store_spec import StoreSpec


@dataclass(frozen=True)
class CatalogueSize:
    """The table at its newest version. ``bytes`` and ``files``: of the files that hold its current rows."""

    version: int
    files: int
    bytes: int


def catalogue_size(root: StoreSpec) -> CatalogueSize | None:
    """Return the size of the catalogue below a storage root, or None when there is none yet. Raises CatalogueError."""
    spec = delta.table_spec(root)
    with delta.catalogue_errors("read", spec):
        table = delta.open_table(spec)
        if table is None:
            return None
        sizes = pa.table(table.get_add_actions(flatten=True))["size_bytes"].to_pylist()
        return CatalogueSize(table.version(), len(sizes), sum(sizes))

"""The stores table: metadata that the crop job joins to each photo by store_id. A Parquet file that its owner keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cropline import storage
from cropline.errors import ManifestError, StorageError

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.storage import StoreSpec


def read_stores(spec: StoreSpec, where: str | None) -> pa.Table:
    """schemas.STORES, one row a store; empty when no table is set. Columns that the file lacks are null, others are left.

    Raises ManifestError when it cannot be read, has no store_id, or holds one twice: a join would double the crops.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from cropline.schemas import STORES

    if where is None:
        return STORES.empty_table()
    table = _read(spec, where)
    table = pa.table({f.name: _column(table, f) for f in STORES}, schema=STORES).filter(pc.field("store_id").is_valid())
    if pc.count_distinct(table["store_id"]).as_py() != table.num_rows:
        raise ManifestError(f"stores table {where} holds a store_id twice")
    return table


def read_cameras(spec: StoreSpec, where: str | None) -> set[tuple[str, str]] | None:
    """(store id, camera id) of every camera that the table knows; None when it has no column ``cameras`` (a list of ids).

    Raises ManifestError as read_stores does.
    """
    import pyarrow as pa

    if where is None or "cameras" not in (table := _read(spec, where)).column_names:
        return None
    try:
        cameras = table["cameras"].cast(pa.list_(pa.string())).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ManifestError(f"stores table {where}: cameras is no list of ids") from None
    stores = table["store_id"].cast(pa.string()).to_pylist()
    return {
        (store, camera) for store, ids in zip(stores, cameras, strict=True) for camera in ids or () if store and camera
    }


def _read(spec: StoreSpec, where: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = Path(where).read_bytes() if Path(where).is_file() else storage.read(spec, where)
        table = pq.read_table(pa.BufferReader(data))
    except (StorageError, OSError, pa.ArrowInvalid) as error:
        raise ManifestError(f"stores table {where} cannot be read ({type(error).__name__})") from None
    if "store_id" not in table.column_names:
        raise ManifestError(f"stores table {where} has no column store_id")
    return table


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    import pyarrow as pa

    return table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)

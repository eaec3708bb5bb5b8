"""The stores table: a Parquet file of the user's with metadata that the crop job joins to each photo by store_id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cropline.core import storage
from cropline.core.errors import ManifestError, StorageError
from cropline.core.scrub import one_line

if TYPE_CHECKING:
    from collections.abc import Collection

    import pyarrow as pa

    from cropline.core.store_spec import StoreSpec

_ID, _CAMERAS = "store_id", "cameras"


def read_stores(spec: StoreSpec, where: str | None) -> pa.Table:
    """Return schemas.STORES, one row per store; empty when no table is set.

    Missing columns are null, others are ignored.

    Raise ManifestError when it cannot be read, has no store_id or a repeated one (a join would double the crops), or a
    column is not text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from cropline.core.schemas import STORES

    if where is None:
        return STORES.empty_table()
    table = _read(where, spec, STORES.names)
    columns = {
        name: _text(where, table, name) if name in table.column_names else pa.nulls(len(table), pa.string())
        for name in STORES.names
    }
    table = pa.table(columns, schema=STORES).filter(pc.field(_ID).is_valid())
    repeated = table.group_by(_ID).aggregate([([], "count_all")]).filter(pc.field("count_all") > 1)
    if len(repeated):
        raise ManifestError(f"stores table {where} holds a store_id twice: {one_line(repeated[_ID][0].as_py(), 80)}")
    return table


def read_cameras(spec: StoreSpec, where: str | None) -> set[tuple[str, str]] | None:
    """Return (store id, camera id) of every camera in the table; None without a column ``cameras`` (lists of ids).

    Raise ManifestError as read_stores does.
    """
    import pyarrow as pa

    if where is None or _CAMERAS not in (table := _read(where, spec, (_ID, _CAMERAS))).column_names:
        return None
    try:
        cameras = table[_CAMERAS].cast(pa.list_(pa.string())).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError):
        raise ManifestError(
            f"stores table {where}: {_CAMERAS} is not a list of ids but {table[_CAMERAS].type}"
        ) from None
    stores = _text(where, table, _ID).to_pylist()
    return {
        (store, camera) for store, ids in zip(stores, cameras, strict=True) for camera in ids or () if store and camera
    }


def _read(where: str, spec: StoreSpec, wanted: Collection[str]) -> pa.Table:
    """Return the wanted columns that the file has, with store_id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = Path(where).read_bytes() if Path(where).is_file() else storage.read(spec, where)
        names = pq.read_schema(pa.BufferReader(data)).names
        again = next((name for name in wanted if names.count(name) > 1), None)
        if again is not None:
            raise ManifestError(f"stores table {where} has two columns {again}")
        table = pq.read_table(pa.BufferReader(data), columns=[name for name in wanted if name in names])
    except StorageError as error:
        raise ManifestError(f"stores table {where} is neither a local file nor in the storage: {error}") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ManifestError(f"stores table {where} cannot be read as Parquet ({type(error).__name__})") from None
    if _ID not in table.column_names:
        raise ManifestError(f"stores table {where} has no column store_id")
    return table


def _text(where: str, table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column as text. Whole numbers too: pandas turns ids into floats when one is missing."""
    import pyarrow as pa

    column = table[name]
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_floating(column.type):
            column = column.cast(pa.int64())
        text = column.cast(pa.string())
        text.to_pylist()  # Arrow accepts bytes that are not UTF-8
    except (pa.ArrowException, UnicodeDecodeError):
        raise ManifestError(f"stores table {where}: {name} is not text but {one_line(str(column.type), 80)}") from None
    return text

"""The stores table: a Parquet file of the user's with metadata that the crop job joins to each photo by store_id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cropline.core import storage
from cropline.core.column_types import NAME
from cropline.core.columns import CATALOGUE_COLUMNS
from cropline.core.errors import ManifestError, StorageError
from cropline.core.own_columns import stored_type
from cropline.core.scrub import one_line

if TYPE_CHECKING:
    from collections.abc import Collection

    import pyarrow as pa

    from cropline.core.store_spec import StoreSpec

_ID, _CAMERAS = "store_id", "cameras"
_PANDAS_INDEX = "__index_level_"


def read_stores(spec: StoreSpec, where: str | None) -> pa.Table:
    """Return schemas.STORES, one row per store; empty when no table is set.

    Missing columns are null. Other columns are those of read_store_columns.

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


def read_store_columns(spec: StoreSpec, where: str | None) -> pa.Table | None:
    """Return store_id and the user's own columns, in the types that the catalogue stores; None without any.

    A name that the catalogue has already gets ``store_`` before it. Raise ManifestError when it cannot be read, or a
    column has a type or a name that the catalogue cannot store.
    """
    import pyarrow as pa

    from cropline.core.schemas import STORES

    if where is None:
        return None
    table = _read(where, spec, None)
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        if name not in STORES.names and name != _CAMERAS and not name.startswith(_PANDAS_INDEX):
            column, values = _own(where, table, name)
            if column.lower() in {known.lower() for known in columns}:
                raise ManifestError(f"stores table {where} has two columns {column}; names differ in more than case")
            columns[column] = values
    if not columns:
        return None
    return pa.table({_ID: _text(where, table, _ID), **columns})


def _own(where: str, table: pa.Table, name: str) -> tuple[str, pa.ChunkedArray]:
    import pyarrow as pa

    column = f"store_{name}" if name.lower() in CATALOGUE_COLUMNS else name
    kind = stored_type(table[name].type)
    if not NAME.fullmatch(column) or column.lower() in CATALOGUE_COLUMNS:
        raise ManifestError(
            f"stores table {where}: the catalogue cannot have a column {one_line(name, 80)!r}: rename it"
        )
    if kind is None:
        raise ManifestError(
            f"stores table {where}: the catalogue cannot store {name}, which is {one_line(str(table[name].type), 80)}"
        )
    try:
        return column, table[name].cast(kind)
    except (pa.ArrowException, UnicodeDecodeError):
        raise ManifestError(f"stores table {where}: {name} cannot be stored as {kind}") from None


def with_store_columns(rows: pa.Table, stores: pa.Table | None, known: pa.Schema) -> pa.Table:
    """Return the rows with the columns of their store (read_store_columns); null for a store that it lacks.

    ``known``: the columns that the catalogue has. Raise ManifestError when one of them has another type.
    """
    import pyarrow.compute as pc

    if stores is None:
        return rows
    at = pc.index_in(rows[_ID], stores[_ID].combine_chunks(), skip_nulls=True)
    for field in stores.schema:
        if field.name == _ID:
            continue
        if field.name in known.names and known.field(field.name).type != field.type:
            raise ManifestError(
                f"stores table: column {field.name} is {field.type}, but the catalogue has it as "
                f"{known.field(field.name).type}: rename it"
            )
        values = stores[field.name].take(at)
        if field.name in rows.column_names:
            rows = rows.set_column(rows.column_names.index(field.name), field, values)
        else:
            rows = rows.append_column(field, values)
    return rows


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


def _read(where: str, spec: StoreSpec, wanted: Collection[str] | None) -> pa.Table:
    """Return the wanted columns that the file has, or all, with store_id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = Path(where).read_bytes() if Path(where).is_file() else storage.read(spec, where)
        names = pq.read_schema(pa.BufferReader(data)).names
        wanted = names if wanted is None else wanted
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

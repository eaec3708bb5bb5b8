"""The catalogue as a DataFrame: ``cropline.read_crops``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from cropline.catalogue import Catalogue, sql
from cropline.catalogue.versions import Version
from cropline.core.errors import OptionError
from cropline.core.scrub import one_line
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

_FRAMES = ("pandas", "arrow", "duckdb")


@overload
def read_crops(
    where: str | None = ...,
    *,
    columns: Sequence[str] | None = ...,
    frame: Literal["pandas"] = ...,
    storage: str | StoreSpec | None = ...,
    version: Version | None = ...,
) -> pd.DataFrame: ...
@overload
def read_crops(
    where: str | None = ...,
    *,
    columns: Sequence[str] | None = ...,
    frame: Literal["arrow"],
    storage: str | StoreSpec | None = ...,
    version: Version | None = ...,
) -> pa.Table: ...
@overload
def read_crops(
    where: str | None = ...,
    *,
    columns: Sequence[str] | None = ...,
    frame: Literal["duckdb"],
    storage: str | StoreSpec | None = ...,
    version: Version | None = ...,
) -> duckdb.DuckDBPyRelation: ...
@overload
def read_crops(
    where: str | None = ...,
    *,
    columns: Sequence[str] | None = ...,
    frame: object,
    storage: str | StoreSpec | None = ...,
    version: Version | None = ...,
) -> Any: ...
def read_crops(
    where: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    frame: object = "pandas",
    storage: str | StoreSpec | None = None,
    version: Version | None = None,
) -> Any:
    """Return the catalogue's current rows, one per box and profile, as a DataFrame.

    where: a SQL expression over the catalogue's columns, run by DuckDB in UTC:
    ``"status = 'written' AND label = 'Cola'"``.
    columns: the columns to read; default all.
    frame: "pandas", "arrow", "duckdb" (a relation in memory), or a Spark session, which returns a Spark DataFrame.
    storage: the storage's URL; default that of the settings (CROPLINE_STORAGE__...).
    version: a version of the catalogue, or a time with a zone: the rows that were current then. Default the newest.

    Raise OptionError for an invalid condition or column, CatalogueError when there is no catalogue, no such version, or when it
    cannot be read.
    """
    import duckdb

    session = frame if hasattr(frame, "createDataFrame") else None
    if session is None and frame not in _FRAMES:
        raise OptionError(f"frame: {frame!r} is neither one of {', '.join(_FRAMES)} nor a Spark session")
    found = Catalogue(storage_spec(storage)).read_version(version)
    database = sql.connect(found.rows)
    try:
        with sql.reading(found.version):
            # Passed as an expression, not as SQL text of a statement: it cannot end the statement and begin another.
            rows = database.table(sql.TABLE)
            if where is not None:
                rows = rows.filter(where)
            if columns is not None:
                rows = rows.select(*(duckdb.ColumnExpression(name) for name in columns))
            table: pa.Table = rows.to_arrow_table()
    except duckdb.Error as error:
        option = "where" if where is not None else "columns"
        raise OptionError(f"{option}: {one_line(str(error))}") from None
    if session is not None:
        return _on_spark(session, table)
    if frame == "duckdb":
        return database.from_arrow(table)
    return table if frame == "arrow" else table.to_pandas()


def storage_spec(storage: str | StoreSpec | None) -> StoreSpec:
    """Return the storage of a URL; by default that of the settings."""
    if isinstance(storage, StoreSpec):
        return storage
    from cropline.config.settings import load_installation

    settings = load_installation().storage
    return settings.spec if storage is None else settings.model_copy(update={"url": storage.rstrip("/")}).spec


def _on_spark(session: Any, table: pa.Table) -> Any:
    if len(table):
        return session.createDataFrame(table)
    # Spark Connect does not infer types from an empty table.
    names = ", ".join(f"`{field.name}` {_SPARK.get(str(field.type), 'string')}" for field in table.schema)
    return session.createDataFrame([], schema=names)


_SPARK = {
    "int64": "bigint",
    "double": "double",
    "date32[day]": "date",
    "timestamp[us, tz=UTC]": "timestamp",
}

"""Open the Delta table on any kind of storage, and turn its errors into CatalogueError."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from cropline.catalogue.describing import STATISTICS_PROPERTY
from cropline.catalogue.rows import CATALOGUE, PARTITION, STATISTICS, columns_of
from cropline.core.clouds import delta_address, delta_options
from cropline.core.columns import described
from cropline.core.errors import CatalogueError, StorageError
from cropline.core.scrub import one_line
from cropline.core.store_probe import require
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

NAME = "catalogue"

_CONFIGURATION = {
    # A reader replays the commits since the last checkpoint, but every checkpoint lists all files and batches again.
    "delta.checkpointInterval": "50",
    STATISTICS_PROPERTY: ",".join(STATISTICS),
    # An erased photo rewrites its whole file (see compaction.py).
    "delta.targetFileSize": str(32 * 1024 * 1024),
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 30 days",
    # Otherwise the log would keep every batch id for ever. An older batch that is appended again is found by its rows.
    "delta.setTransactionRetentionDuration": "interval 90 days",
}


@lru_cache(maxsize=16)
def table_spec(root: StoreSpec) -> StoreSpec:
    """Return the store of the table below a storage root.

    delta-rs cannot share obstore's memory store, so ``memory:///`` gets a folder for the lifetime of the process.
    """
    if root.scheme != "memory":
        return replace(root, url=root.uri(NAME))
    folder = Path(tempfile.mkdtemp(prefix="cropline-catalogue-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return StoreSpec((folder / NAME).as_uri())


def open_table(spec: StoreSpec, *, version: int | None = None) -> DeltaTable | None:
    """Return the table at its newest (or the given) version, or None when there is no table yet."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(delta_address(spec), version=version, storage_options=_options(spec))
    except TableNotFoundError:
        return None


def open_or_create(spec: StoreSpec) -> DeltaTable:
    """Return the table, created when it is missing. When several processes create it at once, one succeeds.

    Raise StorageError when the store lacks a feature that a table needs (see store_probe).
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    table = open_table(spec)
    if table is not None:
        return add_columns(table, CATALOGUE)
    # On a store that lets two writers create one version, commits would be lost from the first batch on.
    require(replace(spec, url=spec.url.removesuffix(f"/{NAME}")))
    try:
        return DeltaTable.create(
            delta_address(spec),
            described(CATALOGUE),
            mode="error",
            partition_by=[PARTITION],
            name="cropline",
            description="One row per box and crop profile; see cropline's docs/architecture.md",
            configuration=dict(_CONFIGURATION),
            storage_options=_options(spec),
        )
    except DeltaError:
        table = open_table(spec)
        if table is None:
            raise
        return table


def add_columns(table: DeltaTable, schema: pa.Schema) -> DeltaTable:
    """Add the columns of a schema that the table lacks: new ones of this version, or of users. Older rows have nulls."""
    from deltalake import Field, Schema

    missing = _missing(table, schema)
    if missing:
        fields: list[Field] = list(Schema.from_arrow(described(pa.schema(missing))).fields)
        table.alter.add_columns(fields)
    return table


def lacks_columns(table: DeltaTable, schema: pa.Schema) -> bool:
    """Return whether the table lacks a column of the schema.

    Raise CatalogueError for a column that the table has with another type, or in other letters: no reader could read both.
    """
    known = {field.name.lower(): field for field in columns_of(table)}
    for field in schema:
        there = known.get(field.name.lower())
        if there is not None and (there.name, there.type) != (field.name, field.type):
            raise CatalogueError(
                f"column {field.name} is {field.type}, but the catalogue has {there.name} as {there.type}; rename it"
            )
    return bool(_missing(table, schema))


def _missing(table: DeltaTable, schema: pa.Schema) -> list[pa.Field]:
    known = {field.name for field in table.schema().fields}
    return [field for field in schema if field.name not in known]


@contextmanager
def catalogue_errors(action: str, spec: StoreSpec) -> Iterator[None]:
    """Turn every error of delta-rs, Arrow or the store into a CatalogueError of one line without secrets."""
    from deltalake.exceptions import DeltaError, SchemaMismatchError
    from pyarrow import ArrowException

    try:
        yield
    except (DeltaError, SchemaMismatchError, ArrowException, OSError) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise CatalogueError(f"cannot {action} the catalogue at {spec.url}: {reason}") from error


def _options(spec: StoreSpec) -> dict[str, str] | None:
    try:
        return delta_options(spec)
    except StorageError as error:
        raise CatalogueError(str(error)) from None

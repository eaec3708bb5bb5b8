"""What is new, changed or gone between two versions of the catalogue: ``cropline.changes``.

Rows that came and went are copied from the commits to a DuckDB file (log_changes.py), which finds what remains of them
(net_changes.py). A row that only moved to another file, or was committed again without a change, is not told.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cropline.catalogue import delta, log_changes, versions
from cropline.catalogue.net_changes import NetChanges
from cropline.catalogue.rows import columns_of
from cropline.catalogue.versions import Version
from cropline.core.errors import CatalogueError
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 10_000
_HEAD = [pa.field("change", pa.string()), pa.field("change_version", pa.int64())]


class Changes:
    """Changes after version ``since`` up to ``version``: give that number as ``since`` the next time.

    Each row has ``change`` and ``change_version`` (the version that made the change), then the catalogue's columns:

    added       a crop (or a failed or skipped box) that was not there; the row is current
    updated     the same crop with other values, such as another label or place in a pack; the row is current
    superseded  a row that is no longer current, for example because its photo has a newer version
    erased      the crop was erased or has expired: drop it. Only source, image_id, profile, box_id and key are set

    What came and went in between is not told. Iterate over rows (dicts) or ``batches``, once; or call ``to_arrow`` or
    ``to_pandas``.
    """

    def __init__(self, since: int | None, version: int, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self.since, self.version, self.schema = since, version, schema
        self._batches = batches

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the changes as record batches. Memory does not grow with their number."""
        return self._batches

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._batches:
            yield from batch.to_pylist()

    def to_arrow(self) -> pa.Table:
        """Return the changes as one Arrow table."""
        return pa.Table.from_batches(list(self._batches), schema=self.schema)

    def to_pandas(self) -> pd.DataFrame:
        """Return the changes as a pandas DataFrame."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame


def changes(
    since: Version | None = None, *, until: Version | None = None, storage: str | StoreSpec | None = None
) -> Changes:
    """Return what changed in the catalogue since a version: a number, or a time with a zone.

    since: the ``version`` of the last call. None: from nothing, so every current row is ``added``.
    until: a version; default the newest.
    storage: the storage's URL; default that of the settings (CROPLINE_STORAGE__...).

    It reads the commits in between and the rows that they name, not the table. Commits and old files are kept as
    maintenance keeps them, 30 days by default. Raise CatalogueError when they are gone, when there is no catalogue, or
    no such version.
    """
    from cropline.catalogue.reading import storage_spec

    return changes_in(delta.table_spec(storage_spec(storage)), since, until)


def changes_in(spec: StoreSpec, since: Version | None, until: Version | None = None) -> Changes:
    """Return the changes of the table at ``spec``; see ``changes``."""
    with delta.catalogue_errors("read", spec):
        table = delta.open_table(spec)
        if table is None:
            raise CatalogueError(f"there is no catalogue yet at {spec.url}")
        newest = int(table.version())
        last = versions.resolve(spec, newest, until)
        columns = columns_of(table)
        schema = pa.schema([*_HEAD, *columns])
        if since is None:
            whole = table if last == newest else delta.open_table(spec, version=last) or table
            return Changes(None, last, schema, _all(spec, whole.scan(), last, schema))
        first = versions.resolve(spec, newest, since)
        if first > last:
            raise CatalogueError(f"version {first} is after version {last}")
        return Changes(first, last, schema, _between(spec, first, last, columns, schema))


def _all(spec: StoreSpec, rows: Any, version: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with delta.catalogue_errors("read", spec):
        for batch in pa.RecordBatchReader.from_stream(rows):
            head = [pa.array(["added"] * len(batch)), pa.array([version] * len(batch), pa.int64())]
            columns = [
                batch[field.name].cast(field.type)
                if field.name in batch.schema.names
                else pa.nulls(len(batch), field.type)
                for field in list(schema)[len(_HEAD) :]
            ]
            yield pa.record_batch([*head, *columns], schema=schema)


def _between(spec: StoreSpec, first: int, last: int, columns: pa.Schema, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with (
        tempfile.TemporaryDirectory(prefix="cropline-") as folder,
        closing(NetChanges(Path(folder), columns)) as net,
    ):
        with delta.catalogue_errors("read", spec):
            for commit in log_changes.changes_of(spec, first, last):
                for came, files in ((False, commit.removed), (True, commit.added)):
                    for file in files:
                        for rows in log_changes.read_rows(spec, file, columns):
                            net.add(rows, commit.version, came=came, cause=commit.cause)
        for batch in net.batches(_ROWS):
            yield pa.record_batch([batch[field.name].cast(field.type) for field in schema], schema=schema)

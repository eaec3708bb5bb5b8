"""The user's SQL over the catalogue. DuckDB runs it, in UTC, and it can read the catalogue and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cropline.core.errors import CatalogueError
from cropline.core.scrub import one_line

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

TABLE = "crops"

# Without it, `captured_at >= '2026-03-02 06:10'` means the time zone of the machine, and so do the times that come back.
_UTC = "SET TimeZone = 'UTC'"
# In ``python -c`` and a console, DuckDB draws a bar into standard output once a query takes two seconds.
_QUIET = "SET enable_progress_bar = false"
# Set once the catalogue is registered: from here on no file, network or Python variable can be reached.
_ALONE = ("SET python_enable_replacements = false", "SET enable_external_access = false")


def connect(rows: pa.RecordBatchReader, path: str = ":memory:") -> duckdb.DuckDBPyConnection:
    """Return a database, by default in memory, whose one table (TABLE) is these rows. The rows can be read once."""
    import duckdb

    database = duckdb.connect(path)
    database.register(TABLE, rows)
    for statement in (_UTC, _QUIET, *_ALONE):
        database.execute(statement)
    return database


@contextmanager
def reading(version: int) -> Iterator[None]:
    """Raise CatalogueError when a query fails because a version of the catalogue cannot be read, not because of the query."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        _, broken, why = str(error).partition(f"reading the stream registered as '{TABLE}' failed: ")
        if not broken:
            raise
        if "not found" in why.lower():
            why = "a file of it is gone (maintenance removes those that only versions older than its --keep-days need)"
        raise CatalogueError(f"cannot read version {version} of the catalogue: {one_line(why)}") from None

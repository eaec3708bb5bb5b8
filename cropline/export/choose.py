"""Chooses catalogue rows by the user's own SQL expression.

DuckDB runs it so that it reads the catalogue and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cropline.catalogue import Catalogue
from cropline.core.errors import ExportError
from cropline.core.scrub import one_line

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

_ROWS = 1_000

# Set once the catalogue is registered: from here on no file, network, Python variable or other setting can be reached.
_LOCKED = (
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


def chosen(
    spec: StoreSpec, where: str | None, limit: int | None, profiles: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield written crops (catalogue rows) for which the condition holds, ordered by key.

    ``profiles``: empty means all.

    Raise ExportError for an invalid condition, CatalogueError when there is no catalogue yet.
    """
    import duckdb

    reader = Catalogue(spec).reader()
    with duckdb.connect(":memory:") as database:
        database.register("crops", reader)
        for statement in _LOCKED:
            database.execute(statement)
        try:
            # As an expression, not as text in a statement: it cannot end the statement and begin another.
            rows: duckdb.DuckDBPyRelation = database.table("crops").filter("status = 'written'")
            if profiles:
                wanted = [duckdb.ConstantExpression(name) for name in profiles]
                rows = rows.filter(duckdb.ColumnExpression("profile").isin(*wanted))
            if where is not None:
                rows = rows.filter(where)
            rows = rows.order("key")
            if limit is not None:
                rows = rows.limit(limit)
            for part in rows.to_arrow_reader(_ROWS):
                yield from part.to_pylist()
        except duckdb.Error as error:
            raise ExportError(f"--where: {one_line(str(error))}") from None

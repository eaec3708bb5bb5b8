"""The rows that a condition chooses. The condition is the user's own SQL expression, run by DuckDB over the catalogue.

Belongs here: running it so that it can read the catalogue and nothing else. Does not: crops.
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

# Of the connection, once the catalogue is registered: from here on no file, no network, no variable of ours, no other setting.
_LOCKED = (
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


def chosen(
    spec: StoreSpec, where: str | None, limit: int | None, profiles: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Written crops (catalogue rows) for which the condition holds, of all profiles or of some, ordered by their keys.

    Raises ExportError for a condition that is none, CatalogueError when there is no catalogue yet.
    """
    import duckdb

    reader = Catalogue(spec).reader()
    with duckdb.connect(":memory:") as database:
        database.register("crops", reader)
        for statement in _LOCKED:
            database.execute(statement)
        try:
            # As an expression, not as text in a statement of ours: it cannot end ours and begin another.
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

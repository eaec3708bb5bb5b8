"""Chooses catalogue rows by the user's own SQL expression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cropline.catalogue import Catalogue, sql
from cropline.core.errors import ExportError
from cropline.core.scrub import one_line

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

_ROWS = 1_000


def chosen(
    spec: StoreSpec, where: str | None, limit: int | None, profiles: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield written crops (catalogue rows) for which the condition holds, ordered by key.

    ``profiles``: empty means all.

    Raise ExportError for an invalid condition, CatalogueError when there is no catalogue yet.
    """
    import duckdb

    with sql.connect(Catalogue(spec).reader()) as database:
        database.execute("SET lock_configuration = true")
        try:
            # As an expression, not as text in a statement: it cannot end the statement and begin another.
            rows: duckdb.DuckDBPyRelation = database.table(sql.TABLE).filter("status = 'written'")
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

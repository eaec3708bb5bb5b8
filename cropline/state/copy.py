"""Copy every row of one state database into another, empty one, of the same kind or not.

Stop the runs first; docs/operations.md says how.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Table, func, insert, select, update

from cropline.core.errors import StateError
from cropline.state.database import Database
from cropline.state.tables import (
    backfills,
    backlog_samples,
    batches,
    binding,
    deleted_images,
    erasures,
    images,
    manifests,
    moved_out,
    outbox,
    profiles,
    read_files,
    recent_items,
    runs,
    sources,
    tombstones,
)

# Without the tallies, which triggers keep, and the schema's version, which the migrations write.
_TABLES: tuple[Table, ...] = (
    sources, profiles, manifests, recent_items, read_files, batches, images, outbox, backfills, backlog_samples,
    erasures, tombstones, deleted_images, moved_out, runs,
)  # fmt: skip
_ROWS_AT_ONCE = 1_000


def copy(source: Database, target: Database, on_table: Callable[[str, int], None]) -> None:
    """Copy all rows in one transaction; call ``on_table`` with each table's name and number of rows.

    Raise StateError when the target has rows, or when a batch is open: its holder would commit to the old database.
    """
    with source.reading() as old, target.atomic() as new:
        for table in _TABLES:
            if new.execute(select(func.count()).select_from(table)).scalar():
                raise StateError(f"the new state database is not empty: it has rows in {table.name}")
        if old.execute(select(func.count()).where(batches.c.state == "open")).scalar():
            raise StateError("batches are open: pause the work pool and wait, see cropline status")
        for table in _TABLES:
            on_table(table.name, _copy(old, new, table))
        # The target has its one row already; it gets the source's binding.
        new.execute(update(binding).values(dict(old.execute(select(binding)).one()._mapping)))


def _copy(old: Connection, new: Connection, table: Table) -> int:
    # The outbox numbers its rows itself; only their order matters.
    columns = [column for column in table.columns if not (table is outbox and column.name == "id")]
    rows = old.execute(select(*columns).order_by(*table.primary_key.columns))
    copied = 0
    while part := [dict(row._mapping) for row in rows.fetchmany(_ROWS_AT_ONCE)]:
        new.execute(insert(table), part)
        copied += len(part)
    return copied

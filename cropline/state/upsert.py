"""INSERT .. ON CONFLICT for SQLite and PostgreSQL, which SQLAlchemy keeps in two places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert


def upsert(connection: Connection, table: Table) -> Insert:
    """Return an insert with ``on_conflict_do_update`` and ``on_conflict_do_nothing`` for this database."""
    made: Any
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        made = postgresql.insert(table)
    else:
        from sqlalchemy.dialects import sqlite

        made = sqlite.insert(table)
    insert: Insert = made
    return insert

"""Write many rows in one statement on PostgreSQL: columns are bound as arrays and unnested.

SQLite is fast row by row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Column, Connection, any_, bindparam, column, func
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

Kinds = Mapping[str, TypeEngine[Any]]


def one_of(connection: Connection, column: Column[Any], values: Collection[object]) -> ColumnElement[bool]:
    """Return the condition that a column is one of these values. One array on PostgreSQL: a thousand parameters cost more."""
    if connection.dialect.name == "postgresql":
        return column == any_(bindparam(None, list(values), type_=ARRAY(column.type), unique=True))
    return column.in_(list(values))


def unnested(kinds: Kinds, rows: Sequence[Mapping[str, object]]) -> Any:
    """Return these rows as a table ``told``, on PostgreSQL. ``kinds``: its columns and their types."""
    arrays = [
        bindparam(name, [row[name] for row in rows], type_=ARRAY(kind), unique=True) for name, kind in kinds.items()
    ]
    columns = [column(name, kind) for name, kind in kinds.items()]
    return func.unnest(*arrays).table_valued(*columns).render_derived("told")

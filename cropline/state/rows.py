"""Read and stage many rows as Arrow columns: Python objects for each row would slow a large claim or registration.

fetch    Return the rows of a statement as a table.
stage    Fill a temporary table, by COPY on PostgreSQL and executemany on SQLite. Values that a database refuses must be
         made storable first.
storable Escape what PostgreSQL cannot store in text (tables.AnyText reads it back).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Executable, Table

from cropline.core.errors import StateError
from cropline.state.tables import ESCAPE, ESCAPES

_ROWS_A_COPY = 512  # small: PostgreSQL reads one part while the next is made
_ROWS_A_PART = 65_536
_ROWS_A_FETCH = 500  # fewer than set off a garbage collection, which would cost more than the rows


def fetch(
    connection: Connection, statement: Executable, schema: pa.Schema, values: Mapping[str, object] | None = None
) -> pa.Table:
    """Return the rows of a statement, whose columns are texts and integers in the order of the schema.

    ``values``: those of the statement's parameters.
    """
    result = connection.execute(statement, values)
    cursor: Any = result.cursor
    parts = []
    # The driver's own rows: SQLAlchemy would process each value and make a second row of them.
    while rows := cursor.fetchmany(_ROWS_A_FETCH):
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        parts.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
    result.close()
    table = pa.Table.from_batches(parts, schema=schema).combine_chunks()
    if connection.dialect.name == "postgresql":
        for index, field in enumerate(schema):
            if pa.types.is_string(field.type):
                table = table.set_column(index, field, _unescaped(table.column(index)))
    return table


def _unescaped(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    if _may_contain(texts, ESCAPE):
        for plain, stored in reversed(ESCAPES):
            texts = pc.replace_substring(texts, stored, plain)
    return texts


def storable(connection: Connection, table: pa.Table) -> pa.Table:
    """Escape the texts of a table that PostgreSQL could not store."""
    if connection.dialect.name != "postgresql":
        return table
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = table.column(index)
            for plain, stored in ESCAPES:
                if _may_contain(column, plain):
                    column = pc.replace_substring(column, plain, stored)
            table = table.set_column(index, field, column)
    return table


def _may_contain(texts: pa.ChunkedArray, text: str) -> bool:
    """Return False when no value contains the text. Looks at all bytes at once: that costs a tenth of a look at each value."""
    wanted = text.encode()
    return any(wanted in buffer.to_pybytes() for chunk in texts.chunks if (buffer := chunk.buffers()[2]) is not None)


def stage(connection: Connection, target: Table, tables: Iterable[pa.Table]) -> None:
    """Insert storable rows into a temporary table that has the same columns in the same order."""
    if connection.dialect.name == "postgresql":
        _copy(connection, target, tables)
    else:
        _insert(connection, target, tables)


def _copy(connection: Connection, target: Table, tables: Iterable[pa.Table]) -> None:
    import pyarrow.csv as csv

    # "needed" quotes every string and no null, so an empty string stays one.
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    driver: Any = connection.connection.driver_connection
    expected = 0
    with driver.cursor() as cursor:
        with cursor.copy(f"COPY {target.name} FROM STDIN (FORMAT csv)") as copy:
            for table in tables:
                expected += table.num_rows
                for part in _with_times_as_text(table, "Z").to_batches(max_chunksize=_ROWS_A_COPY):
                    buffer = io.BytesIO()
                    csv.write_csv(part, buffer, options)
                    copy.write(buffer.getbuffer())
        if cursor.rowcount != expected:
            raise StateError(f"{expected} rows were sent to the state database but {cursor.rowcount} arrived")


def _insert(connection: Connection, target: Table, tables: Iterable[pa.Table]) -> None:
    statement = f"INSERT INTO {target.name} VALUES ({', '.join('?' * len(target.columns))})"  # noqa: S608 - our own names
    for table in tables:
        for part in _with_times_as_text(table, "+00:00").to_batches(max_chunksize=_ROWS_A_PART):
            if part.num_rows:
                columns = [column.to_pylist() for column in part.columns]
                connection.exec_driver_sql(statement, list(zip(*columns, strict=True)))


def _with_times_as_text(table: pa.Table, zone: str) -> pa.Table:
    """Return the table with its times, which are in UTC, in ISO 8601 as tables.UtcTime writes them."""
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            # Without its zone a time is written 15 times faster.
            texts = table.column(index).cast(pa.timestamp("us")).cast(pa.string())
            texts = pc.binary_join_element_wise(pc.replace_substring(texts, " ", "T"), zone, "")
            table = table.set_column(index, field.name, texts)
    return table

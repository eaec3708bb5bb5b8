"""Finds what remains of rows that came and went, in a DuckDB file. Its memory does not grow with their number.

The rows are wide. So three numbers of each are compared first, in parts: hashes of its crop and of its values, and its
version. Then DuckDB reads only the rows of the result, and sorts them on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

_ROWS_A_PART = 500_000
_ROWS_AN_INSERT = 20_000  # each insert waits for the disk
_SETTINGS = ("TimeZone = 'UTC'", "memory_limit = '512MB'", "threads = 2", "preserve_insertion_order = false")
# A row that differs only in these was committed again, because its photo was: the crop did not change.
_OF_THE_COMMIT = {
    "fingerprint", "box_index", "retry_after_s", "manifest", "manifest_row", "batch_id", "attempt", "flow_run",
    "committed_at", "recrop_reason", "recrop_detail", "recrop_failed_at",
}  # fmt: skip
# The columns that a consumer needs to drop an erased crop. The others are left out.
_OF_ERASED = {"source", "image_id", "profile", "box_id", "key"}
_HEAD = pa.schema([("_at", pa.int64()), ("_came", pa.bool_()), ("_cause", pa.string())])


class NetChanges:
    """Add the rows of each commit in the order of the versions, then read the batches once. Close it afterwards."""

    def __init__(self, folder: Path, columns: pa.Schema) -> None:
        import duckdb

        self._names = columns.names
        self._schema = pa.schema([*_HEAD, *columns])
        self._waiting: list[pa.Table] = []
        # What does not fit into memory goes into the folder too.
        self._database = duckdb.connect(str(folder / "changes.duckdb"))
        for setting in _SETTINGS:
            self._database.execute(f"SET {setting}")
        self._database.register("part", self._schema.empty_table())
        self._database.execute("CREATE SEQUENCE numbers")
        self._database.execute("CREATE TABLE told AS SELECT 0::BIGINT AS _row, * FROM part LIMIT 0")

    def close(self) -> None:
        self._database.close()

    def add(self, rows: pa.Table, version: int, *, came: bool, cause: str) -> None:
        """Add rows of one commit, with the columns of the table."""
        head = [pa.repeat(value, len(rows)) for value in (version, came, cause)]
        self._waiting.append(pa.table([*head, *rows.columns], schema=self._schema))
        if sum(map(len, self._waiting)) >= _ROWS_AN_INSERT:
            self._insert()

    def _insert(self) -> None:
        self._database.register("part", pa.concat_tables([self._schema.empty_table(), *self._waiting]))
        self._database.execute("INSERT INTO told SELECT nextval('numbers'), * FROM part")
        self._database.unregister("part")
        self._waiting.clear()

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield what remains: ``change``, ``change_version`` and the columns, in the order of the versions."""
        self._insert()
        self._database.execute(_looked(self._names))
        self._database.execute("CREATE TABLE net (_told BIGINT, _change VARCHAR)")
        (count,) = self._database.sql("SELECT count(*) FROM looked").fetchall()[0]
        parts = -(-count // _ROWS_A_PART)
        for part in range(parts):
            self._database.execute(_NET, [parts, part])
        yield from self._database.sql(_told(self._names)).to_arrow_reader(rows)


def _looked(names: list[str]) -> str:
    """Return the statement for the numbers of each row.

    A crop is its key; a box without one is its place in the photo. Lengths keep apart what stands side by side.
    """
    box = "coalesce(key, concat(box_index, ' ', box_id))"
    crop = ", ".join(f"length({name}), ':', {name}" for name in ("source", "image_id", "profile", box))
    values = ", ".join(_quoted(name) for name in names if name not in _OF_THE_COMMIT)
    numbers = f"md5_number(concat({crop})) AS _crop, hash({values}) AS _values"
    return f"CREATE TABLE looked AS SELECT _row, _at, _came, {numbers} FROM told"  # noqa: S608 - names, in quotes


# Duplicates of a crop may exist, so rows are counted: a crop was there if more of its rows went than came before.
_NET = """
    INSERT INTO net
    WITH numbered AS (
        SELECT *, CASE WHEN _came THEN 1 ELSE -1 END AS _step,
            sum(_step) OVER (PARTITION BY _crop ORDER BY _at, _came ROWS UNBOUNDED PRECEDING) AS _level
        FROM looked WHERE _crop % $1 = $2
    ), crops AS (
        SELECT min(_level) < 0 AS was, greatest(0, -min(_level)) + sum(_step) > 0 AS now,
            arg_min(_values, _at) FILTER (NOT _came) AS old, arg_max(_values, _at) FILTER (_came) AS new,
            arg_max(_row, _at) FILTER (_came) AS came, arg_max(_row, _at) FILTER (NOT _came) AS went
        FROM numbered GROUP BY _crop
    )
    SELECT CASE WHEN now THEN came ELSE went END, CASE
        WHEN now AND NOT was THEN 'added'
        WHEN now AND old IS DISTINCT FROM new THEN 'updated'
        WHEN was AND NOT now THEN 'gone'
    END AS change
    FROM crops WHERE change IS NOT NULL AND (NOT now OR came IS NOT NULL)
"""


def _told(names: list[str]) -> str:
    columns = ", ".join(
        f"told.{_quoted(name)}"
        if name in _OF_ERASED
        else f"CASE WHEN _change <> 'gone' OR _cause <> 'erased' THEN told.{_quoted(name)} END AS {_quoted(name)}"
        for name in names
    )
    return f"""
        SELECT CASE _change WHEN 'gone' THEN _cause ELSE _change END AS change, _at AS change_version, {columns}
        FROM told JOIN net ON _row = _told
        ORDER BY change_version, source, image_id, profile, told.box_index
    """  # noqa: S608 - names of columns, in quotes


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

"""Frames of this process: pandas, Arrow, DuckDB and files. Read by column, returned in the same kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from fugue_jobs.frame.options import EDGES, Columns, Options, check_clash, find_columns
from fugue_jobs.frame.results import Results, nest, result_schema
from fugue_jobs.frame.rows import (
    Rows,
    arrow_codes,
    arrow_numbers,
    as_edges,
    boxes_of,
    check_fit,
    grouped,
    holds_boxes,
    is_nested,
    no_label,
    numbers,
    one_box,
    read_image,
)

if TYPE_CHECKING:
    import pandas as pd

    from fugue_jobs.frame.rows import Facts, Floats, Image, Ints

Cutter = Callable[[Rows, Options], Results]
"""Turns rows into results, here or on a cluster."""


class Source(Protocol):
    """A frame of any kind, read by columns."""

    def names(self) -> Sequence[Hashable]:
        """Return its columns, in order."""

    def images(self, name: Hashable) -> tuple[Ints, Callable[[int], Image]]:
        """Return ``codes`` and ``image`` of Rows."""

    def numbers(self, name: Hashable) -> Floats:
        """Return a column of numbers."""

    def kind(self, name: Hashable) -> pa.DataType | None:
        """Return a column's type; None where its values are untyped."""

    def values(self, name: Hashable) -> Sequence[Any]:
        """Return a column's values, by row."""


@dataclass(frozen=True)
class FrameRows:
    """A frame's rows, one per box. ``counts``: boxes of each row of the frame, where boxes are nested."""

    rows: Rows
    counts: list[int | None] | None

    @property
    def nested(self) -> bool:
        return self.counts is not None


def take(source: Source, options: Options, *, whole: bool = True) -> FrameRows:
    """Return the rows of a frame, or of a part of one (``whole=False``), whose box format is not checked.

    Raise OptionError for missing, clashing or mistyped columns, and for a box format that no box fits.
    """
    names = source.names()
    columns = find_columns(names, options)
    check_clash(names, result_schema(options).names)
    codes, image = source.images(columns.image)
    taken = _nested(source, columns, options, codes, image) if _is_nested(source, columns, options) else None
    if taken is None:
        label = _label(source, columns)
        edges, labels = _edges(source, columns, options)
        taken = FrameRows(Rows(codes, image, edges, label or labels or no_label, _facts(source)), None)
    if whole:
        check_fit(taken.rows.edges, options)
    return taken


def _is_nested(source: Source, columns: Columns, options: Options) -> bool:
    if columns.edges is not None:
        return False
    kind = source.kind(columns.box)
    return "boxes" in options.columns or (holds_boxes(source.values(columns.box)) if kind is None else is_nested(kind))


def _edges(source: Source, columns: Columns, options: Options) -> tuple[Floats, Callable[[int], str | None] | None]:
    if columns.edges is not None:
        four = [source.numbers(name) for name in columns.edges]
        return as_edges(np.column_stack(four) if len(four[0]) else np.empty((0, 4)), options), None
    names = EDGES[options.boxes]
    read = [one_box(value, names) for value in source.values(columns.box)]
    four_of_all = np.array([four for four, _ in read], np.float64).reshape(-1, 4)
    return as_edges(four_of_all, options), lambda row: read[row][1]


def _nested(
    source: Source, columns: Columns, options: Options, codes: Ints, image: Callable[[int], Image]
) -> FrameRows:
    names = EDGES[options.boxes]
    boxes = [boxes_of(value) for value in source.values(columns.box)]
    counts = [None if own is None else len(own) for own in boxes]
    row_of = np.repeat(np.arange(len(counts)), [count or 0 for count in counts])
    read = [one_box(box, names) for own in boxes for box in own or ()]
    four = np.array([numbers_ for numbers_, _ in read], np.float64).reshape(-1, 4)
    own_label, own_facts = _label(source, columns), _facts(source)
    rows = Rows(
        codes[row_of],
        lambda row: image(int(row_of[row])),
        as_edges(four, options),
        lambda row: read[row][1] if own_label is None else own_label(int(row_of[row])),
        lambda rows: own_facts(row_of[rows]),
    )
    return FrameRows(rows, counts)


def _label(source: Source, columns: Columns) -> Callable[[int], str | None] | None:
    if columns.label is None:
        return None
    values = source.values(columns.label)
    return lambda row: None if _is_missing(values[row]) else str(values[row])


def _facts(source: Source) -> Facts:
    told: dict[str, Sequence[Any]] = {}

    def facts(rows: Ints) -> list[dict[str, Any]]:
        if not told:
            told.update({str(name): source.values(name) for name in dict.fromkeys(source.names())})
        columns = [_told(values, rows) for values in told.values()]
        return [dict(zip(told, row, strict=True)) for row in zip(*columns, strict=True)]

    return facts


def _told(values: Sequence[Any], rows: Ints) -> list[Any]:
    """Return these rows' values as plain Python, whatever the frame is. Bytes are left out: a function gets the crop."""
    found = values[rows].tolist() if isinstance(values, np.ndarray) else [values[row] for row in rows.tolist()]
    return [None if isinstance(value, bytes | bytearray) else value for value in found]


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value) or str(value) == "<NA>"


class ArrowSource:
    """An Arrow table."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def names(self) -> Sequence[Hashable]:
        return list(self._table.column_names)

    def images(self, name: Hashable) -> tuple[Ints, Callable[[int], Image]]:
        return arrow_codes(self._table.column(name), name)

    def numbers(self, name: Hashable) -> Floats:
        return arrow_numbers(self._table.column(name), name)

    def kind(self, name: Hashable) -> pa.DataType | None:
        kind: pa.DataType = self._table.schema.field(name).type
        return None if pa.types.is_string(kind) or pa.types.is_large_string(kind) else kind

    def values(self, name: Hashable) -> Sequence[Any]:
        values: list[Any] = self._table.column(name).to_pylist()
        return values


class PandasSource:
    """A pandas DataFrame."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame: Any = frame

    def names(self) -> Sequence[Hashable]:
        return list(self._frame.columns)

    def images(self, name: Hashable) -> tuple[Ints, Callable[[int], Image]]:
        column = self._column(name)
        table = self._arrow(column)
        if table is not None:
            return arrow_codes(table, name)
        values = column.array
        if column.dtype != object and str(column.dtype) != "category":
            # pandas gives a column of missing values the type float.
            return arrow_codes(pa.chunked_array([pa.array(column, from_pandas=True)]), name)
        return grouped(values), lambda row: read_image(values[row])

    def numbers(self, name: Hashable) -> Floats:
        column = self._column(name)
        table = self._arrow(column)
        if table is not None:
            return arrow_numbers(table, name)
        if column.dtype == object:
            return numbers(column.array)
        if str(column.dtype) == "category":
            return numbers(column.astype(object).array)
        if column.dtype.kind in "fiu":
            return np.asarray(column.to_numpy(np.float64, na_value=np.nan), np.float64)
        return arrow_numbers(pa.chunked_array([pa.array(column, from_pandas=True)]), name)

    def kind(self, name: Hashable) -> pa.DataType | None:
        table = self._arrow(self._column(name))
        return None if table is None or pa.types.is_string(table.type) else table.type

    def values(self, name: Hashable) -> Sequence[Any]:
        column = self._column(name)
        table = self._arrow(column)
        if table is not None:
            values: list[Any] = table.to_pylist()
            return values
        plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufO"
        array: Sequence[Any] = column.to_numpy() if plain else column.array
        return array

    def _column(self, name: Hashable) -> Any:
        # By position: names may be repeated, and may be tuples.
        return self._frame.iloc[:, list(self._frame.columns).index(name)]

    @staticmethod
    def _arrow(column: Any) -> pa.ChunkedArray | None:
        import pandas as pd

        if isinstance(column.dtype, pd.ArrowDtype) or str(column.dtype) in ("string", "str"):
            array = pa.array(column, from_pandas=True)
            return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
        return None


def crop_pandas(frame: pd.DataFrame, options: Options, cut: Cutter, *, whole: bool = True) -> pd.DataFrame:
    """Return the frame with its result columns: same index, same order, other columns unchanged."""
    taken = take(PandasSource(frame), options, whole=whole)
    results = cut(taken.rows, options)
    columns = _nested_objects(results, taken) if taken.counts is not None else _as_pandas(results)
    out = frame.copy()
    for name, values in columns:
        out[name] = values
    return out


def _as_pandas(results: Results) -> Any:
    import pandas as pd

    for name, kind, values, missing in results.take():
        if missing is not None:
            yield name, pd.arrays.IntegerArray(values, missing)
        elif pa.types.is_floating(kind):
            yield name, np.array([np.nan if value is None else value for value in values], np.float64)
        else:
            yield name, values


def _nested_objects(results: Results, taken: FrameRows) -> Any:
    counts = taken.counts or []
    ends = list(itertools.accumulate(count or 0 for count in counts))
    for name, _, values, missing in results.take():
        flat = values.astype(object)
        if missing is not None:
            flat[missing] = None
        lists = np.full(len(counts), None, object)
        for row, (count, end) in enumerate(zip(counts, ends, strict=True)):
            if count is not None:
                lists[row] = flat[end - count : end].tolist()
        yield name, lists


def crop_arrow(table: pa.Table, options: Options, cut: Cutter, *, whole: bool = True) -> pa.Table:
    """Return the table with its result columns."""
    taken = take(ArrowSource(table), options, whole=whole)
    return with_columns(table, arrow_results(taken, cut(taken.rows, options)))


def arrow_results(taken: FrameRows, results: Results) -> pa.Table:
    """Return the result columns as a table with one row per row of the frame."""
    flat = results.arrow()
    return flat if taken.counts is None else nest(flat, taken.counts)


def with_columns(table: pa.Table, more: pa.Table) -> pa.Table:
    """Return the table with the columns of another appended."""
    for name, column in zip(more.column_names, more.columns, strict=True):
        table = table.append_column(name, column)
    return table


_numbers = itertools.count()


def crop_duckdb(relation: Any, options: Options, cut: Cutter) -> Any:
    """Return the relation with its result columns, on its own connection.

    The relation is read once into a temporary table, because a second run might change the order of rows.
    The result is a temporary table too. Types never leave DuckDB.
    """
    names = list(relation.columns)
    columns = find_columns(names, options)
    check_clash(names, result_schema(options).names)
    name = f"cropline_frame_{next(_numbers)}"
    # The names of views and tables are ours; the user's text is quoted.
    relation.query("cropline_view", f"CREATE TEMP TABLE {name}_in AS SELECT * FROM cropline_view")  # noqa: S608
    try:
        wanted = set(names) if options.profile.steps else {columns.image, *columns.of_boxes, columns.label} - {None}
        quoted = ", ".join('"' + str(column).replace('"', '""') + '"' for column in names if column in wanted)
        read = f"SELECT {quoted} FROM {name}_in ORDER BY rowid"  # noqa: S608
        table = relation.query("cropline_view", read).to_arrow_table()
        found = crop_arrow(table, options, cut).drop_columns(table.column_names)
        cropline_results = found.append_column("cropline_row", pa.array(np.arange(len(found))))  # noqa: F841 - by name
        relation.query(
            "cropline_view",
            f"CREATE TEMP TABLE {name} AS SELECT frame.*, results.* EXCLUDE (cropline_row) FROM {name}_in AS frame "  # noqa: S608
            "JOIN cropline_results AS results ON frame.rowid = results.cropline_row ORDER BY frame.rowid",
        )
    finally:
        relation.query("cropline_view", f"DROP TABLE {name}_in")
    return relation.query("cropline_view", f"SELECT * FROM {name}")  # noqa: S608

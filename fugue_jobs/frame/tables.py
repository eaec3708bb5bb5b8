"""Runs Arrow tables through a worker's crop processes for Spark and Fugue, and packs rows for the transfer."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fugue_jobs.frame.cutting import cut_rows
from fugue_jobs.frame.local import crop_arrow, with_columns
from fugue_jobs.frame.results import Results, result_schema
from fugue_jobs.frame.rows import Rows, arrow_numbers
from fugue_jobs.pool.applying import pickled_row

if TYPE_CHECKING:
    from fugue_jobs.frame.options import Options
    from fugue_jobs.frame.rows import Ints

# The size of a part, in rows and bytes. Crop processes wait for each other at the end of each part.
_ROWS, _BYTES = 4_096, 64_000_000

# Rows of this process on their way to a cluster: only the needed columns, and each image's bytes
# once, with the first of its rows.
LOOSE = pa.schema(
    [("row", pa.int64()), ("code", pa.int64()), ("image", pa.string()), ("data", pa.binary())]
    + [(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")]
    + [("label", pa.string()), ("facts", pa.binary())]
)


@dataclass(frozen=True)
class CropTables:
    """Maps a frame's tables to the same tables with result columns. Consecutive rows of one image stay together."""

    options: Options
    image: str
    order: tuple[str, ...]  # the columns that come out

    def __call__(self, tables: Iterable[pa.Table | pa.RecordBatch]) -> Iterator[pa.Table]:
        """Yield each part of the rows, cut."""
        for table in windows(tables, self.image):
            yield crop_arrow(table, self.options, cut_part, whole=False).select(self.order)

    def batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same for Spark's mapInArrow."""
        for table in self(batches):
            yield from table.to_batches()

    def whole(self, table: pa.Table) -> pa.Table:
        """The same for clusters that run functions: one table in, one out."""
        empty = crop_arrow(table.slice(0, 0), self.options, cut_part, whole=False).select(self.order)
        return pa.concat_tables([empty, *self([table])])


def cut_part(rows: Rows, options: Options) -> Results:
    """Cut a part of the rows on one core of a cluster."""
    return cut_rows(rows, options, options.processes or 1)


def windows(tables: Iterable[pa.Table | pa.RecordBatch], image: str) -> Iterator[pa.Table]:
    """Yield parts of some thousand rows. The last image of a part moves to the next: more of its rows may follow."""
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        whole = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        held.append(whole)
        rows, size = rows + whole.num_rows, size + whole.nbytes
        if rows < _ROWS and size < _BYTES:
            continue
        joined = pa.concat_tables(held)
        cut = _last_begins(joined.column(image))
        if cut:
            yield joined.slice(0, cut)
            joined = joined.slice(cut)
        held, rows, size = [joined], joined.num_rows, joined.nbytes
    joined = pa.concat_tables(held) if held else None
    if joined is not None and joined.num_rows:
        yield joined


def _last_begins(column: pa.ChunkedArray) -> int:
    """Return the first row of the run of equal values at the end of the column."""
    at = len(column) - 1
    last = column[at]
    if not last.is_valid:
        return len(column)
    while at and column[at - 1] == last:
        at -= 1
    return at


def loose(rows: Rows, options: Options) -> pa.Table:
    """Return the rows as LOOSE, ordered by image; the frame's own columns only when there are functions."""
    order = np.argsort(rows.codes, kind="stable")
    codes = rows.codes[order]
    first = np.concatenate([[True], codes[1:] != codes[:-1]]) if len(codes) else np.zeros(0, np.bool_)
    images = [rows.image(int(row)) if begins else None for row, begins in zip(order, first, strict=True)]
    columns = [
        pa.array(order),
        pa.array(codes),
        pa.array([image if isinstance(image, str) else None for image in images], pa.string()),
        pa.array([image if isinstance(image, bytes) else None for image in images], pa.binary()),
        *(pa.array(rows.edges[order, place], from_pandas=True) for place in range(4)),
        pa.array([rows.label(int(row)) for row in order], pa.string()),
        pa.array(_pickled(rows) if options.profile.steps else [None] * len(order), pa.binary()),
    ]
    return pa.table(columns, schema=LOOSE)


def _pickled(rows: Rows) -> list[bytes]:
    """Return each row's own columns, ordered by image: an image at a time, since a frame of dictionaries is large."""
    return [pickled_row(row) for group in rows.groups() for row in rows.facts(group)]


@dataclass(frozen=True)
class CropLoose:
    """Maps LOOSE tables to row numbers and result columns. Each call must have all rows of its images, in order."""

    options: Options

    @property
    def schema(self) -> pa.Schema:
        """The schema of the result."""
        return pa.schema([LOOSE.field("row"), *result_schema(self.options)])

    def __call__(self, tables: Iterable[pa.Table | pa.RecordBatch]) -> Iterator[pa.Table]:
        """Yield each part of the rows, cut."""
        for table in windows(tables, "code"):
            results = cut_part(_rows(table), self.options)
            yield with_columns(table.select(["row"]), results.arrow())

    def batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same for Spark's mapInArrow."""
        for table in self(batches):
            yield from table.to_batches()

    def parts(self, tables: Iterable[pa.Table]) -> Iterable[pa.Table]:
        """The same for Fugue, which reads these type annotations."""
        return self(tables)

    def whole(self, table: pa.Table) -> pa.Table:
        """The same for clusters that run functions: one table in, one out."""
        return pa.concat_tables([self.schema.empty_table(), *self([table])])


def _rows(table: pa.Table) -> Rows:
    images, data = table.column("image"), table.column("data")
    edges = [arrow_numbers(table.column(name), name) for name in ("xmin", "ymin", "xmax", "ymax")]
    labels = table.column("label").to_pylist()
    own = table.column("facts")

    def image(row: int) -> str | bytes | None:
        found: str | bytes | None = images[row].as_py() if images[row].is_valid else data[row].as_py()
        return found

    codes = table.column("code").to_numpy().astype(np.int64)

    def facts(rows: Ints) -> list[dict[str, Any]]:
        return [pickle.loads(own[row].as_py()) for row in rows.tolist()]  # noqa: S301 - our own driver's

    return Rows(codes, image, np.column_stack(edges), lambda row: labels[row], facts)

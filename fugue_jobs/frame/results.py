"""The results of rows, by column, in numpy arrays that are filled as crops finish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cropline.core.errors import EngineError
from cropline.core.own_columns import arrow_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fugue_jobs.frame.options import Options
    from fugue_jobs.work import CropOutcome

_BEFORE = (("status", pa.string()), ("reason", pa.string()), ("detail", pa.string()))
_AFTER = (
    ("sha256", pa.string()),
    ("bytes", pa.int64()),
    ("width", pa.int64()),
    ("height", pa.int64()),
    ("format", pa.string()),
    ("left", pa.int64()),
    ("top", pa.int64()),
    ("right", pa.int64()),
    ("bottom", pa.int64()),
)
# Of lossless crops, which are larger than the cut.
_IN_CROP = (("box_left", pa.int64()), ("box_top", pa.int64()))


def result_schema(options: Options, *, nested: bool = False) -> pa.Schema:
    """Return the columns that are appended to a frame; lists with one value per box where boxes are nested."""
    where = ("key", pa.string()) if options.store is not None else ("data", pa.binary())
    place = _IN_CROP if options.profile.copies_bits else ()
    fields = [(options.prefix + name, kind) for name, kind in (*_BEFORE, where, *_AFTER, *place)]
    fields += [(name, arrow_type(kind)) for name, kind in options.extras.items()]
    return pa.schema([(name, pa.list_(kind) if nested else kind) for name, kind in fields])


class Results:
    """The result columns of a number of rows."""

    def __init__(self, count: int, options: Options) -> None:
        self._schema = result_schema(options)
        self._prefix, self._extras = options.prefix, options.extras
        self._count = count
        self._known = np.zeros(count, np.bool_)
        self._columns: dict[str, NDArray[Any]] = {}
        self._missing: dict[str, NDArray[np.bool_]] = {}
        for field in self._schema:
            whole = pa.types.is_int64(field.type)
            self._columns[field.name] = np.zeros(count, np.int64) if whole else np.full(count, None, object)
            if whole:
                self._missing[field.name] = np.ones(count, np.bool_)

    def put(self, row: int, crop: CropOutcome) -> None:
        """Record the outcome of this row."""
        self._known[row] = True
        for name, column in self._columns.items():
            if name in self._extras:
                value = None if crop.values is None else crop.values.get(name)
            else:
                value = getattr(crop, name.removeprefix(self._prefix))
            if value is None:
                continue
            column[row] = value
            if name in self._missing:
                self._missing[name][row] = False

    def fill(self, table: pa.Table) -> None:
        """Copy results that a worker returned; column ``row`` has the row numbers."""
        rows = table.column("row").to_numpy()
        self._known[rows] = True
        for name, column in self._columns.items():
            found = table.column(name)
            if name in self._missing:
                self._missing[name][rows] = found.is_null().to_numpy()
                column[rows] = found.fill_null(0).to_numpy()
            else:
                for row, value in zip(rows.tolist(), found.to_pylist(), strict=True):
                    column[row] = value
        if self.lost:
            raise EngineError(f"{self.lost} rows did not come back from the engine")

    @property
    def lost(self) -> int:
        """The number of rows without an outcome: must be 0 at the end."""
        return int(self._count - self._known.sum())

    def take(self) -> Iterator[tuple[str, pa.DataType, NDArray[Any], NDArray[np.bool_] | None]]:
        """Yield (name, type, values, mask of missing values) per column, in order, and release each afterwards."""
        for field in self._schema:
            yield field.name, field.type, self._columns.pop(field.name), self._missing.pop(field.name, None)

    def arrow(self) -> pa.Table:
        """Return all columns as an Arrow table, and release them here."""
        arrays = [_array(values, kind, missing) for _, kind, values, missing in self.take()]
        return pa.table(
            [pa.chunked_array(array) if isinstance(array, list) else array for array in arrays], self._schema
        )


def nest(flat: pa.Table, counts: list[int | None]) -> pa.Table:
    """Return one row per image: each column is a list with a value per box. A count of None is a null list."""
    offsets = np.concatenate([[0], np.cumsum([count or 0 for count in counts])]).astype(np.int32)
    mask = pa.array([count is None for count in counts], pa.bool_())
    columns = [
        pa.ListArray.from_arrays(
            pa.array(offsets), column.combine_chunks() if column.num_chunks else pa.array([], column.type), mask=mask
        )
        for column in flat.columns
    ]
    return pa.table(columns, names=flat.column_names)


def _array(values: NDArray[Any], kind: pa.DataType, missing: NDArray[np.bool_] | None) -> pa.Array:
    # Arrow does not convert numpy arrays of lists to lists.
    return pa.array(values.tolist(), kind) if pa.types.is_list(kind) else pa.array(values, kind, mask=missing)

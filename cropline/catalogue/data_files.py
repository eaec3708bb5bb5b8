"""Write data files of the table, and the add actions that name them."""

from __future__ import annotations

import io
import json
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue import blooms
from cropline.catalogue.files import LAYOUT
from cropline.catalogue.rows import PARTITION, STATISTICS
from cropline.core import storage
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from typing import BinaryIO

GROUP_ROWS = 32_768
"""Rows of a row group: the least that is read to find or to rewrite a row."""

_FILES_AT_ONCE = 8
_LONGEST_BOUND = 256  # characters; a file whose minimum or maximum is longer has neither
# A look-up by one of these columns, without a date or a batch, opens only the row groups that may hold it.
_FALSE_HITS = 0.01


class DataFileWriter:
    """Writes one data file of one partition into a local file or buffer, a part at a time."""

    def __init__(
        self, target: Path | BinaryIO, schema: pa.Schema, day: date | None, *, rows: int, compression: str = "snappy"
    ) -> None:
        """``schema``: CATALOGUE, and the columns of users. ``rows``: about how many the file will have."""
        import pyarrow.parquet as pq

        # The log has the partition's value.
        self._schema = pa.schema([field for field in schema if field.name != PARTITION])

        self._day, self._statistics = day, _Statistics()
        self._waiting: list[pa.Table] = []
        self._metadata: list[pq.FileMetaData] = []
        in_group = max(1, min(rows, GROUP_ROWS))
        self._writer = pq.ParquetWriter(
            target,
            self._schema,
            compression=compression,
            write_page_index=True,
            bloom_filter_options={
                "key": {"ndv": in_group, "fpp": _FALSE_HITS},
                "image_id": {"ndv": max(1, in_group // 4), "fpp": _FALSE_HITS},  # see blooms.COLUMNS
            },
            metadata_collector=self._metadata,
        )

    def write(self, rows: pa.Table) -> None:
        """Add rows (CATALOGUE). They stay in memory until they fill a row group: every group costs each reader time."""
        if not len(rows):
            return
        self._statistics.add(rows)
        self._waiting.append(rows.select(self._schema.names))
        count = sum(map(len, self._waiting))
        if count >= GROUP_ROWS:
            waiting = pa.concat_tables(self._waiting)
            whole = count - count % GROUP_ROWS
            self._writer.write_table(waiting.slice(0, whole), row_group_size=GROUP_ROWS)
            self._waiting = [waiting.slice(whole)] if whole < count else []

    def close(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=GROUP_ROWS)
            self._waiting = []
        self._writer.close()

    def action(self, path: str, size: int, *, data_change: bool) -> dict[str, Any]:
        """Return the add action of the closed file."""
        (metadata,) = self._metadata
        filters = blooms.tag(metadata)
        return {
            "path": path,
            "partitionValues": {PARTITION: self._day.isoformat() if self._day else None},
            "size": size,
            "modificationTime": int(time.time() * 1000),
            "dataChange": data_change,
            "stats": self._statistics.text(),
            "tags": dict([LAYOUT] if filters is None else [LAYOUT, (blooms.TAG, filters)]),
        }


class _Statistics:
    """The number of rows, and for each column in STATISTICS its minimum, maximum and number of nulls."""

    def __init__(self) -> None:
        self._rows = 0
        self._least: dict[str, Any] = {}
        self._most: dict[str, Any] = {}
        self._nulls = dict.fromkeys(STATISTICS, 0)

    def add(self, rows: pa.Table) -> None:
        self._rows += len(rows)
        for name in STATISTICS:
            self._nulls[name] += rows[name].null_count
            bounds = pc.min_max(rows[name]).as_py()
            if bounds["min"] is not None:
                self._least[name] = min(self._least.get(name, bounds["min"]), bounds["min"])
                self._most[name] = max(self._most.get(name, bounds["max"]), bounds["max"])

    def text(self) -> str:
        bounded = [name for name in self._least if _fits(self._least[name]) and _fits(self._most[name])]
        return json.dumps(
            {
                "numRecords": self._rows,
                "minValues": {name: _bound(self._least[name]) for name in bounded},
                "maxValues": {name: _bound(self._most[name]) for name in bounded},
                "nullCount": self._nulls,
            },
            separators=(",", ":"),
        )


def _fits(value: Any) -> bool:
    return not isinstance(value, str) or len(value) <= _LONGEST_BOUND


def _bound(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value


def write_rows(spec: StoreSpec, rows: pa.Table) -> list[dict[str, Any]]:
    """Write rows (CATALOGUE) as one file per day of capture. Return their add actions. No commit names them yet."""

    def write(part: tuple[date | None, pa.Table]) -> dict[str, Any]:
        day, rows = part
        buffer = io.BytesIO()
        writer = DataFileWriter(buffer, rows.schema, day, rows=len(rows))
        writer.write(rows)
        writer.close()
        path, data = new_path(day), buffer.getvalue()
        storage.write(spec, path, data)
        return writer.action(path, len(data), data_change=True)

    parts = list(_by_day(rows))
    if len(parts) < 2:
        return [write(part) for part in parts]
    with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="catalogue") as pool:
        return list(pool.map(write, parts))


def new_path(day: date | None) -> str:
    """Return the path of a new file below the table."""
    folder = day.isoformat() if day else "__HIVE_DEFAULT_PARTITION__"
    return f"{PARTITION}={folder}/part-{secrets.token_hex(16)}.parquet"


def _by_day(rows: pa.Table) -> Iterator[tuple[date | None, pa.Table]]:
    days = rows[PARTITION].unique().to_pylist()
    if len(days) == 1:
        yield days[0], rows
        return
    codes = rows[PARTITION].combine_chunks().dictionary_encode(null_encoding="encode")
    order = pc.sort_indices(codes.indices)  # stable: rows of a day keep their order
    counts = pc.value_counts(codes.indices.take(order))
    start, ordered = 0, rows.take(order)
    for count in counts.to_pylist():
        day = codes.dictionary[count["values"]].as_py()
        yield day, ordered.slice(start, count["counts"])
        start += count["counts"]

"""CSV, JSON lines and Parquet, read as streams: one row is one item."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Generator, Iterator
from typing import Any, BinaryIO

from cropline.config.api import ApiSettings
from cropline.intake.json_bytes import read_json
from cropline.intake.plain_values import plain
from cropline.intake.sources.formats.broken import FileError, broken

_DELIMITERS = ",;\t|"
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_csv(file: BinaryIO, api: ApiSettings) -> Generator[Any, None, None]:
    """Yield the rows of a CSV file as dicts of texts; an empty cell is null.

    The delimiter is the one that the header has most of: comma, semicolon, tab or |. A cell of boxes or points may be
    JSON. Raise FileError when there is no usable header.
    """
    lines = _Lines(file, api.max_item_bytes)
    try:
        yield from _csv_rows(lines, api)
    finally:
        lines.detach()


def _csv_rows(lines: _Lines, api: ApiSettings) -> Generator[Any, None, None]:
    header = next(lines, "")
    if not header.strip():
        raise FileError("has no header")
    delimiter = max(_DELIMITERS, key=header.count)
    csv.field_size_limit(api.max_item_bytes)
    names = next(csv.reader([header], delimiter=delimiter))
    again = next((name for name in names if names.count(name) > 1), None)
    if again is not None:
        raise FileError(f"has two columns {again[:60]!r}")
    nested = {name for name in (api.fields.boxes, api.fields.polygon, "boxes") if name}
    rows = csv.reader(lines, delimiter=delimiter)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield broken(f"line {lines.number} is not CSV ({error})", lines.last)
            continue
        if lines.was_long:
            yield broken(f"line {lines.number} is longer than {api.max_item_bytes} bytes", lines.last)
        elif not row:
            continue
        elif len(row) != len(names):
            yield broken(f"line {lines.number} has {len(row)} cells, the header {len(names)}", delimiter.join(row))
        else:
            yield {name: _cell(text, name in nested) for name, text in zip(names, row, strict=True)}


def _cell(text: str, nested: bool) -> Any:
    if nested and text[:1] in ("[", "{"):
        try:
            return read_json(text.encode("utf-8", "surrogateescape"))
        except ValueError:
            return text  # no boxes: the row is quarantined
    return text or None


class _Lines:
    """Lines of a text file, each of bounded length. What is too long is cut, and ``was_long`` is set for its row."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        start = file.read(4)
        file.seek(0)
        encoding = next((name for bom, name in _BOMS if start.startswith(bom)), "utf-8")
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        # newline="": csv finds line ends within quotes.
        self._text = io.TextIOWrapper(_buffered(file), encoding, errors, newline="")
        self._limit = limit
        self.number, self.last, self.was_long = 0, "", False

    def __iter__(self) -> Iterator[str]:
        return self

    def detach(self) -> None:
        """Leave the file to its owner, who closes it."""
        self._text.detach()

    def __next__(self) -> str:
        line = self._text.readline(self._limit)
        if not line:
            raise StopIteration
        self.number, self.was_long = self.number + 1, False
        if len(line) == self._limit and not line.endswith(("\n", "\r")):
            self.was_long = True
            while (more := self._text.readline(self._limit)) and not more.endswith(("\n", "\r")):
                pass
        self.last = line[:2_000]
        # Cut, a quoted cell would not end in it, and would take in the lines that follow.
        return "\n" if self.was_long else line


def _buffered(file: BinaryIO) -> Any:
    return file if isinstance(file, io.BufferedIOBase) else io.BufferedReader(file, 1_000_000)


def read_json_lines(file: BinaryIO, api: ApiSettings) -> Generator[Any, None, None]:
    """Yield one item per line. A line that is not a JSON object is broken; empty lines are left out."""
    limit = api.max_page_bytes
    source = _buffered(file)
    number = 0
    while line := source.readline(limit):
        number += 1
        if len(line) == limit and not line.endswith(b"\n"):
            while (more := source.readline(limit)) and not more.endswith(b"\n"):
                pass
            yield broken(f"line {number} is longer than {limit} bytes", line[:2_000].decode("utf-8", "replace"))
            continue
        text = line.strip().removeprefix(codecs.BOM_UTF8)
        if not text:
            continue
        try:
            item = read_json(text)
        except ValueError as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep"
            yield broken(f"line {number} is not JSON ({why})", text[:2_000].decode("utf-8", "replace"))
            continue
        yield item if isinstance(item, dict) else broken(f"line {number} is not an object", str(item))


def read_parquet(file: BinaryIO, api: ApiSettings) -> Generator[Any, None, None]:
    """Yield the rows of a Parquet file, a page in memory at a time. Raise FileError when it is not Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    failure: FileError
    number = 0
    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            again = next((name for name in names if names.count(name) > 1), None)
            if again is not None:
                raise FileError(f"has two columns {again[:60]!r}")
            for batch in table.iter_batches(batch_size=api.page_size):
                yield from _rows(batch, number)
                number += batch.num_rows
            return
    except FileError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        where = f" after row {number}" if number else ""
        failure = FileError(f"cannot be read as Parquet{where} ({type(error).__name__})")
    raise failure


def _rows(batch: Any, first: int) -> Iterator[Any]:
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # one value cannot become Python's: find its row
        for number in range(batch.num_rows):
            try:
                yield from _rows_of(batch.slice(number, 1).to_pylist())
            except (ValueError, OverflowError) as error:
                yield broken(f"row {first + number} has a value that cannot be read ({type(error).__name__})", "")
        return
    yield from _rows_of(rows)


def _rows_of(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None  # pandas writes a missing number so
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"{len(value)} bytes"
    return plain(value)

"""``cropline changes``: what is new, changed or gone in the catalogue, as JSON lines or a Parquet file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cropline.catalogue.changes import Changes, changes
from cropline.catalogue.versions import Version
from cropline.cli.versions import read_version
from cropline.core.errors import ExportError
from cropline.export.crops import json_text, json_values

if TYPE_CHECKING:
    import pyarrow as pa


def run_changes(since: str | None, until: str | None, cursor: Path | None, out: Path | None) -> None:
    """Write the changes to ``out`` or to standard output, then the version into ``cursor``."""
    if since is not None and cursor is not None:
        raise typer.BadParameter("give --since or --cursor, not both")
    first = _stored(cursor) if cursor is not None else read_version(since, "--since") if since is not None else None
    found = changes(first, until=read_version(until, "--until") if until is not None else None)
    count = _to_file(found, out) if out is not None else _to_stdout(found)
    if cursor is not None:
        # After the changes: a consumer that dies in between gets them again.
        with _finished(cursor) as unfinished:
            unfinished.write_text(f"{found.version}\n", encoding="ascii")
    sys.stderr.write(f"{count:,} changes; go on with --since {found.version}\n")


def _stored(cursor: Path) -> Version | None:
    if not cursor.exists():
        return None
    text = cursor.read_text(encoding="utf-8").strip()
    if not text.isascii() or not text.isdigit():
        raise ExportError(f"--cursor {cursor} does not hold the number of a version")
    return int(text)


def _to_stdout(found: Changes) -> int:
    count = 0
    for count, row in enumerate(found, 1):  # noqa: B007 - the last number is the count
        sys.stdout.write(json_text(json_values(row)) + "\n")
    sys.stdout.flush()
    return count


def _to_file(found: Changes, out: Path) -> int:
    """Write Parquet when the name ends so, else JSON lines. The file appears when it is complete."""
    with _finished(out) as unfinished:
        if out.suffix == ".parquet":
            return _to_parquet(found.schema, found.batches(), unfinished)
        count = 0
        with unfinished.open("w", encoding="utf-8") as file:
            for count, row in enumerate(found, 1):  # noqa: B007 - the last number is the count
                file.write(json_text(json_values(row)) + "\n")
        return count


def _to_parquet(schema: pa.Schema, batches: Iterator[pa.RecordBatch], path: Path) -> int:
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            count += len(batch)
    return count


@contextmanager
def _finished(path: Path) -> Iterator[Path]:
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or type(error).__name__}") from error
    finally:
        unfinished.unlink(missing_ok=True)

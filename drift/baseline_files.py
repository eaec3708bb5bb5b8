"""Parquet files in the store in which the watch for drift remembers a source. A damaged one costs what it remembered, no run.

Belongs here: reading and writing such a file, and saying what is wrong with it. Does not: what is in it (baseline.py,
near_duplicates.py).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from cropline.core import storage
from cropline.core.scrub import one_line

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec


@dataclass(frozen=True)
class CorruptFile:
    """A file that is not what was written: which, why, and what lay there, since it is replaced."""

    key: str
    why: str
    bytes: int
    sha256: str


def read(
    spec: StoreSpec, key: str, schema: pa.Schema, check: Callable[[pa.Table], None]
) -> pa.Table | CorruptFile | None:
    """The file's rows in its schema; None when there is none yet. ``check`` raises ValueError. Raises StorageError."""
    if not storage.exists(spec, key):
        return None
    data = storage.read(spec, key)
    try:
        table = _parsed(data, schema)
        check(table)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:  # all that Arrow raises of such bytes
        why = one_line(f"{type(error).__name__}: {error}", 200)
        return CorruptFile(key, why, len(data), hashlib.sha256(data).hexdigest())
    return table


def _parsed(data: bytes, schema: pa.Schema) -> pa.Table:
    import pyarrow.parquet as pq

    # Without the checksum, Arrow takes a flipped bit for data, and any bytes for text.
    found = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    found.validate(full=True)
    return found.select(schema.names).cast(schema.with_metadata(found.schema.metadata))


def write(spec: StoreSpec, key: str, table: pa.Table) -> None:
    """Replace the file. Raises StorageError."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    storage.write(spec, key, buffer.getvalue())

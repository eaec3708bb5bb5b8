"""Reads and writes the baseline's Parquet files. A corrupt file costs its content, but fails no run."""

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
    """A file that cannot be read: its key, the reason, and its size and hash, because it is replaced."""

    key: str
    why: str
    bytes: int
    sha256: str


def read(
    spec: StoreSpec, key: str, schema: pa.Schema, check: Callable[[pa.Table], None]
) -> pa.Table | CorruptFile | None:
    """Return the file's rows, or None when there is no file. ``check`` raises ValueError. Raise StorageError."""
    if not storage.exists(spec, key):
        return None
    data = storage.read(spec, key)
    try:
        table = _parsed(data, schema)
        check(table)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:  # Arrow raises all of these for corrupt files
        why = one_line(f"{type(error).__name__}: {error}", 200)
        return CorruptFile(key, why, len(data), hashlib.sha256(data).hexdigest())
    return table


def _parsed(data: bytes, schema: pa.Schema) -> pa.Table:
    import pyarrow.parquet as pq

    # Without the checksum, Arrow reads a flipped bit as data, and any bytes as text.
    found = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    found.validate(full=True)
    return found.select(schema.names).cast(schema.with_metadata(found.schema.metadata))


def write(spec: StoreSpec, key: str, table: pa.Table) -> None:
    """Replace the file. Raise StorageError."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    storage.write(spec, key, buffer.getvalue())

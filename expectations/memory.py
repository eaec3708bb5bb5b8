"""Reads and writes the Parquet files of drift baselines. A damaged file costs the baseline, not the run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from cropline import storage
from cropline.scrub import one_line

if TYPE_CHECKING:
    from cropline.storage import StoreSpec


@dataclass(frozen=True)
class Damaged:
    """A file that is not what was written: its key, what is wrong, and its size. It is replaced."""

    key: str
    why: str
    bytes: int
    sha256: str


def read(spec: StoreSpec, key: str, schema: pa.Schema, check: Callable[[pa.Table], None]) -> pa.Table | Damaged | None:
    """The file's rows; None when there is no file. ``check`` raises ValueError for wrong rows. Raises StorageError."""
    if not storage.exists(spec, key):
        return None
    data = storage.read(spec, key)
    try:
        table = _parsed(data, schema)
        check(table)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:  # all that Arrow raises of such bytes
        why = one_line(f"{type(error).__name__}: {error}", 200)
        return Damaged(key, why, len(data), hashlib.sha256(data).hexdigest())
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

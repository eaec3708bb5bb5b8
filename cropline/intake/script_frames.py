"""Frames of the user's own script besides the job's: Parquet files anywhere (CROPLINE_ENGINE__FRAMES)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cropline.core import storage
from cropline.core.errors import ManifestError, StorageError

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.core.store_spec import StoreSpec


def read_frames(spec: StoreSpec, frames: Mapping[str, str]) -> dict[str, pa.Table]:
    """Return the frames by name. Each is the address (s3://..., gs://..., az://..., file:///...) or local path of a
    Parquet file, or its key in the storage ``spec``.

    Raise ManifestError with the frame's name when one cannot be read.
    """
    return {name: _read(spec, name, where) for name, where in frames.items()}


def _read(spec: StoreSpec, name: str, where: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(_bytes(spec, where)))
    except StorageError as error:
        raise ManifestError(f"frame {name}: {error}") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ManifestError(f"frame {name}: {where} cannot be read as Parquet ({type(error).__name__})") from None
    twice = next((column for column in table.column_names if table.column_names.count(column) > 1), None)
    if twice is not None:
        raise ManifestError(f"frame {name}: {where} has two columns {twice}")
    return table


def _bytes(spec: StoreSpec, where: str) -> bytes:
    if "://" not in where:
        return Path(where).read_bytes() if Path(where).is_file() else storage.read(spec, where)
    folder, _, key = where.rpartition("/")
    # The storage's endpoint and account hold for other buckets of the same cloud.
    same = where.partition("://")[0] == spec.scheme
    own = replace(spec, url=folder) if same else type(spec)(folder)
    return storage.read(own, key)

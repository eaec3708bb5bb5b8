"""Quarantine: the bad rows of manifests, kept beside them with their reasons until someone looks.

Belongs here: the shape of a quarantine file, finding and reading files. Does not: deciding what is bad (expectations/),
or shaping its rows (expectations/quarantine.py). What lies here is safe to show: secrets are cut out of it. The row as it
came stays in the manifest, under the key and row that each quarantine row names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from cropline import storage
from cropline.errors import ManifestError, StorageError
from cropline.schemas import MANIFEST

if TYPE_CHECKING:
    from cropline.storage import StoreSpec

PREFIX = "quarantine/"

QUARANTINE = pa.schema(
    [
        ("manifest", pa.string()),  # storage key of the manifest, where the row lies as it came
        *MANIFEST,
        ("broken", pa.list_(pa.string())),  # names of the broken expectations
        ("docs", pa.string()),  # address of the Data Docs page of the validation
    ]
)


def quarantine_key(manifest_key: str) -> str:
    """Where the bad rows of a manifest lie."""
    return PREFIX + manifest_key.removeprefix("manifests/")


def list_files(spec: StoreSpec, source: str | None = None) -> list[str]:
    """Storage keys of the quarantine files (of one source), oldest day first. Raises StorageError."""
    keys = storage.list_keys(spec, f"{PREFIX}{source}/" if source else PREFIX)
    return [key for key in keys if key.endswith(".parquet")]


def read(spec: StoreSpec, key: str) -> pa.Table:
    """One quarantine file (QUARANTINE). Raises ManifestError when it is not there or is not one."""
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(storage.read(spec, key)))
        return table.select(QUARANTINE.names).cast(QUARANTINE)
    except StorageError as error:
        raise ManifestError(f"quarantine {key}: {error}") from error
    except (pa.ArrowInvalid, KeyError) as error:
        raise ManifestError(f"quarantine {key} is not of this version ({type(error).__name__})") from error

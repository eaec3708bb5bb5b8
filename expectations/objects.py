"""Reads written crops back from the store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cropline.catalogue.crop_files import COLUMNS, read_crop
from cropline.core import storage

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.core.store_spec import StoreSpec


@dataclass(frozen=True)
class StoredObject:
    """The object at a key: its size in bytes, and its SHA-256 in hex."""

    bytes: int
    sha256: str


def sample_keys(crops: pa.Table, at_most: int) -> list[str]:
    """Return keys of written crops, spread evenly over the batch. The same rows have the same sample."""
    import pyarrow.compute as pc

    keys = sorted(key for key in crops.filter(pc.equal(crops["status"], "written"))["key"].to_pylist() if key)
    step = max(1, -(-len(keys) // at_most)) if at_most > 0 else 0
    return keys[::step] if step else []


def read_objects(spec: StoreSpec, crops: pa.Table, keys: Sequence[str]) -> dict[str, StoredObject | None]:
    """Return the objects that the rows of these keys name; None for a missing one.

    Read every byte. Raise StorageError.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = crops.select(list(COLUMNS)).filter(pc.is_in(crops["key"], pa.array(list(keys), pa.string())))
    return {row["key"]: _read_object(spec, row) for row in rows.to_pylist()}


def _read_object(spec: StoreSpec, row: dict[str, Any]) -> StoredObject | None:
    if not storage.exists(spec, row["shard"] or row["key"]):
        return None
    data = read_crop(spec, row)
    return StoredObject(len(data), hashlib.sha256(data).hexdigest())

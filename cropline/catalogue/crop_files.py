"""Read one crop from a row of the catalogue: an object, or a range of a pack."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cropline.core import storage
from cropline.core.errors import StorageError
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from typing import BinaryIO

COLUMNS = ("key", "shard", "offset", "bytes")
"""What a row must have to be read."""


def open_crop(row: Mapping[str, Any], root: StoreSpec | str | None = None) -> BinaryIO:
    """Return a written crop as an in-memory file: ``PIL.Image.open(cropline.open_crop(row))``.

    ``row`` needs the catalogue's columns key, shard, offset and bytes. ``root`` is the storage's URL; by
    default that of the settings (CROPLINE_STORAGE__...). It sends one request, also for a crop in a pack.
    Raise StorageError.
    """
    if root is None:
        from cropline.config.settings import load_installation

        root = load_installation().storage.spec
    return io.BytesIO(read_crop(StoreSpec(root.rstrip("/")) if isinstance(root, str) else root, row))


def read_crop(spec: StoreSpec, row: Mapping[str, Any]) -> bytes:
    """Return the bytes of a written crop. Raise StorageError, also when they do not exist or the row has no crop."""
    shard = row.get("shard")
    # pandas reads a missing value as NaN.
    if not isinstance(shard, str):
        if not isinstance(row["key"], str):
            raise StorageError("this row has no crop: it was not written")
        return storage.read(spec, row["key"])
    return storage.read_range(spec, shard, int(row["offset"]), int(row["bytes"]))

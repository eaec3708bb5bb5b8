"""Reading one crop, however it is stored: an object of its own, or a range of a pack.

Belongs here: from a row of the catalogue to the picture's bytes. Does not: finding rows (cropline.catalogue).
"""

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
    """The file of a written crop, in memory: ``PIL.Image.open(cropline.open_crop(row))``.

    ``row`` has the catalogue's columns key, shard, offset and bytes. ``root`` is the storage's URL; without it that of the
    settings (CROPLINE_STORAGE__...). One request, whatever the crop's output kind. Raises StorageError.
    """
    if root is None:
        from cropline.config.settings import load_settings

        root = load_settings().storage.spec
    return io.BytesIO(read_crop(StoreSpec(root.rstrip("/")) if isinstance(root, str) else root, row))


def read_crop(spec: StoreSpec, row: Mapping[str, Any]) -> bytes:
    """The bytes of a written crop. Raises StorageError, also when they are not there or the row has none."""
    shard = row.get("shard")
    # A missing value reads as NaN in pandas.
    if not isinstance(shard, str):
        if not isinstance(row["key"], str):
            raise StorageError("this row has no crop: it was not written")
        return storage.read(spec, row["key"])
    return storage.read_range(spec, shard, int(row["offset"]), int(row["bytes"]))

"""Choosing the format of a pack."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from cropline.packs.pack import Pack

if TYPE_CHECKING:
    import pyarrow as pa


def new_pack(kind: str, file: BinaryIO, more: pa.Schema | None = None) -> Pack:
    """An empty pack of an output kind. ``file``: empty, opened for writing and reading.

    ``more``: facts of its samples that become columns of a Parquet file, besides the usual ones.
    """
    if kind == "shards":
        from cropline.packs.tar import TarPack

        return TarPack(file)
    from cropline.packs.parquet import ParquetPack

    return ParquetPack(file, more)

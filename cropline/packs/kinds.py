"""Choosing the format of a pack."""

from __future__ import annotations

from typing import BinaryIO

from cropline.packs.pack import Pack


def new_pack(kind: str, file: BinaryIO) -> Pack:
    """An empty pack of an output kind. ``file``: empty, opened for writing and reading."""
    if kind == "shards":
        from cropline.packs.tar import TarPack

        return TarPack(file)
    from cropline.packs.parquet import ParquetPack

    return ParquetPack(file)

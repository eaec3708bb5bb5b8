"""The formats of an export. Each is a context manager that receives crops one by one and writes files to a folder.

folder      images/...: one file per crop, and metadata.jsonl (the layout of Hugging Face's imagefolder)
webdataset  000000.tar, ...: the same format as cropline's own shards
parquet     000000.parquet, ...: pictures in a column, in Hugging Face's image layout, and every column with its type
coco        annotations.json, with photos/... or crops/...: see coco.py

JSON is strict: NaN and Infinity become null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cropline.export.crops import Crop, Write, json_text, save
from cropline.packs import KINDS, Pack, Sample, new_pack

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("folder", "webdataset", "parquet", "coco")
PACK_BYTES = 256_000_000


@contextmanager
def folder(out: Path) -> Iterator[Write]:
    """Write one file per crop, and metadata.jsonl."""
    with (out / "metadata.jsonl").open("w", encoding="utf-8") as index:

        def write(crop: Crop) -> bool:
            name = f"images/{crop.file_name}"
            save(out / name, crop.data)
            index.write(json_text({"file_name": name} | crop.facts) + "\n")
            return True

        yield write


@contextmanager
def webdataset(out: Path) -> Iterator[Write]:
    """Write tars, each up to PACK_BYTES."""
    with _Packs(out, "shards", lambda file: new_pack("shards", file)) as packs:
        yield lambda crop: packs.add(crop, crop.facts)


@contextmanager
def parquet(out: Path, columns: pa.Schema) -> Iterator[Write]:
    """Write Parquet files, each up to PACK_BYTES, with these columns beside the picture."""
    from cropline.packs.parquet import ParquetPack

    with _Packs(out, "parquet", lambda file: ParquetPack(file, columns)) as packs:
        yield lambda crop: packs.add(crop, crop.values)


class _Packs:
    """Packs one after the other."""

    def __init__(self, out: Path, kind: str, new: Callable[[BinaryIO], Pack]) -> None:
        self._out, self._kind, self._new = out, kind, new
        self._number = -1

    def __enter__(self) -> _Packs:
        self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._pack.seal()
        finally:
            self._close()

    def add(self, crop: Crop, facts: dict[str, object]) -> bool:
        if self._pack.size >= PACK_BYTES:
            self._pack.seal()
            self._close()
            self._open()
        name, _, extension = crop.file_name.rpartition(".")
        self._pack.add(Sample(name, extension, facts, crop.data))
        return True

    def _open(self) -> None:
        self._number += 1
        self._file: BinaryIO = (self._out / f"{self._number:06d}.{KINDS[self._kind]}").open("w+b")
        self._pack = self._new(self._file)

    def _close(self) -> None:
        self._pack.close()
        self._file.close()

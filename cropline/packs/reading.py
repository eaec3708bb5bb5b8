"""Reads packs: their samples in order, and which photos they hold.

Reading one crop needs no pack format and is in cropline.catalogue.crop_files.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from cropline.core import storage
from cropline.core.errors import StorageError
from cropline.core.keys import image_key
from cropline.packs.pack import KINDS, Sample
from cropline.packs.spool import SHARDS, index_key

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec


def kind_of(key: str) -> str:
    """The output kind of a pack. Raises StorageError for a key that is not a pack's."""
    for kind, extension in KINDS.items():
        if key.endswith(f".{extension}"):
            return kind
    raise StorageError(f"{key} is not a pack")


def list_packs(spec: StoreSpec) -> list[str]:
    """Keys of all packs in the store, also of those that no row names."""
    return [key for key in storage.list_keys(spec, f"{SHARDS}/") if key.endswith((".tar", ".parquet"))]


@contextmanager
def opened(spec: StoreSpec, key: str) -> Iterator[BinaryIO]:
    """A whole pack as a local file."""
    if spec.local_path is not None:
        try:
            with (spec.local_path / key).open("rb") as file:
                yield file
        except FileNotFoundError as error:
            raise StorageError(f"cannot read {spec.uri(key)}: it does not exist") from error
        return
    with tempfile.TemporaryFile(prefix="cropline-") as copy:
        for part in storage.stream(spec, key):
            copy.write(part)
        copy.seek(0)
        yield cast("BinaryIO", copy)


def samples(kind: str, file: BinaryIO) -> Iterator[Sample]:
    """The samples of a pack. One is in memory at a time; of a Parquet file, one row group."""
    return _of_tar(file) if kind == "shards" else _of_parquet(file)


def holds(spec: StoreSpec, key: str) -> set[str]:
    """The photos (keys.image_key) whose crops a pack holds.

    A tar is read by its index, a Parquet file by two columns.
    """
    index = index_key(key)
    if index is None:
        return _of_columns(spec, key)
    if storage.exists(spec, index):
        names = [name for name, _ in json.loads(storage.read(spec, index))["samples"]]
        return {"/".join(name.split("/")[:2]) for name in names}
    # A writer that was killed before the index leaves a tar that must be read whole.
    with opened(spec, key) as file:
        return {"/".join(sample.name.split("/")[:2]) for sample in _of_tar(file)}


def _of_columns(spec: StoreSpec, key: str) -> set[str]:
    """The photos of a Parquet file. Only the footer and two columns are read, not the pictures."""
    import pyarrow.parquet as pq

    with storage.open_object(spec, key) as file:
        found = pq.ParquetFile(file).read(columns=["source", "image_id"]).to_pylist()
    return {image_key(row["source"], row["image_id"]) for row in found}


def _of_tar(file: BinaryIO) -> Iterator[Sample]:
    facts: dict[str, Any] = {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            data = cast("io.BufferedReader", tar.extractfile(member)).read()
            name, _, extension = member.name.rpartition(".")
            if extension == "json":
                facts = json.loads(data)
            else:
                yield Sample(name, extension, facts, data)


def _of_parquet(file: BinaryIO) -> Iterator[Sample]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(file).iter_batches(batch_size=64):
        for row in batch.to_pylist():
            picture = row.pop("image")
            name, _, extension = picture["path"].rpartition(".")
            yield Sample(name, extension, row, picture["bytes"])

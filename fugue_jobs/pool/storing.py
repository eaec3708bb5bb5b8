"""Stores a crop's bytes in the object store, with metadata where the store accepts it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import obstore

from cropline.core.failures import PhotoFailure
from cropline.core.keys import crop_key, frame_crop_key
from cropline.core.storage import open_store
from cropline.core.store_spec import StoreSpec
from fugue_jobs.imaging.encode import read_recipe
from fugue_jobs.work import CropOutcome, ImageWork

if TYPE_CHECKING:
    from obstore import Attributes

_MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif"}
_NAMES = ("source", "image-id", "box-id", "batch", "fingerprint")
# Azure's metadata names must be identifiers.
_IDENTIFIERS = tuple(name.replace("-", "_") for name in _NAMES)
# S3 allows 2 KB of metadata in total.
_MAX_VALUE = 400
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
# Only Linux has O_TMPFILE. With 0 instead, the open fails, as no system opens a folder for writing.
_NAMELESS = os.O_WRONLY | os.O_CLOEXEC | getattr(os, "O_TMPFILE", 0)


class CropStore:
    """One store, shared by the threads of a process."""

    def __init__(self, spec: StoreSpec) -> None:
        self._store = open_store(spec)
        self._folder = spec.local_path
        self._names = _IDENTIFIERS if spec.address.cloud == "az" else _NAMES
        # Concurrent PUTs. A remote PUT mostly waits. A local write is CPU work, and so is handing it to a
        # thread: 0 needs no threads.
        self.concurrency = 0 if self._folder is not None else 12

    def put(self, work: ImageWork, batch: str, outcome: CropOutcome, data: bytes) -> CropOutcome:
        """Store the crop. Return the outcome with its key. The same work item writes the same bytes to the same key.

        The metadata is the same too, except the batch, which is the last one that cut the crop. The
        catalogue has the batch that counts. Raise PhotoFailure storage.
        """
        order, box = work.orders[outcome.order], work.boxes[outcome.box_index]
        box_id = box.box_id or ""
        key = _key(work, outcome)
        try:
            if self._folder is not None:
                _write(f"{self._folder}/{key}", data)
            else:
                attributes = self._attributes(work, order.fingerprint, box_id, batch, outcome.format)
                obstore.put(self._store, key, data, attributes=attributes, use_multipart=False)
        except (OSError, obstore.exceptions.BaseError) as error:
            raise PhotoFailure("storage", f"the crop could not be stored: {type(error).__name__}") from None
        return outcome._replace(key=key)

    def _attributes(self, work: ImageWork, fingerprint: str, box_id: str, batch: str, kind: str | None) -> Attributes:
        told = (work.source, work.image_id, box_id, batch, fingerprint)
        names = zip(self._names, map(_header, told), strict=True)
        return {"Content-Type": _MEDIA_TYPES[kind or ""], **dict(names)}


class CropsReturned:
    """Replaces a store: crops are returned to the caller."""

    concurrency = 0

    def put(self, work: ImageWork, batch: str, outcome: CropOutcome, data: bytes) -> CropOutcome:  # noqa: ARG002 - a store's signature
        """Return the outcome with the crop's bytes."""
        return outcome._replace(data=data)


def _key(work: ImageWork, outcome: CropOutcome) -> str:
    order = work.orders[outcome.order]
    extension = read_recipe(order.recipe).extension
    if not work.source:
        edges = (outcome.left or 0, outcome.top or 0, outcome.right or 0, outcome.bottom or 0)
        return frame_crop_key(work.image_id, order.fingerprint, edges, outcome.sha256 or "", extension)
    box_id = work.boxes[outcome.box_index].box_id or ""
    return crop_key(work.source, work.image_id, order.profile, order.fingerprint, outcome.box_index, box_id, extension)


def _write(path: str, data: bytes) -> None:
    """Write atomically, to the path that obstore's LocalStore would use; LocalStore takes several times as long."""
    try:
        _write_nameless(path, data)
    except FileExistsError:
        _write_again(path, data)
    except OSError:
        # Not every file system supports unnamed files. A full or read-only one fails again here.
        _write_named(path, data)


def _write_nameless(path: str, data: bytes) -> None:
    """Write to an unnamed file and link it when complete, so that a killed process leaves nothing behind."""
    folder = path.rpartition("/")[0]
    try:
        file = os.open(folder, _NAMELESS, 0o666)
    except FileNotFoundError:
        Path(folder).mkdir(parents=True, exist_ok=True)
        file = os.open(folder, _NAMELESS, 0o666)
    try:
        _fill(file, data)
        # Python passes AT_SYMLINK_FOLLOW only when it gets a folder; the path is absolute anyway.
        os.link(f"/proc/self/fd/{file}", path, src_dir_fd=file, follow_symlinks=True)
    finally:
        os.close(file)


def _write_again(path: str, data: bytes) -> None:
    """Keep the file, because the bytes are the same. Set its modification time to now."""
    if Path(path).read_bytes() == data:
        os.utime(path)
    else:
        _write_named(path, data)


def _write_named(path: str, data: bytes) -> None:
    """Write to a temporary name. LocalStore does not list names that end in ``#`` and digits."""
    unfinished = f"{path}#{os.getpid()}"
    file = os.open(unfinished, _NEW, 0o666)
    try:
        try:
            _fill(file, data)
        finally:
            os.close(file)
        os.replace(unfinished, path)  # noqa: PTH105 - a Path per crop costs as much as the write
    except OSError:
        os.unlink(unfinished)  # noqa: PTH108 - as above; a full disk would keep one file per refused crop
        raise


def _fill(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _header(value: str) -> str:
    """Percent-encode: ids may hold anything, headers only ASCII."""
    return quote(value.encode("utf-8", "surrogatepass"))[:_MAX_VALUE]

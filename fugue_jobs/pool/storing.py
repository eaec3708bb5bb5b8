"""A cut crop's bytes into the object store, with what is worth knowing about it beside them.

Belongs here: the PUT of one crop. Does not: key layout (cropline.core.keys) or opening stores (cropline.core.storage).
"""

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
# Azure takes none but identifiers.
_IDENTIFIERS = tuple(name.replace("-", "_") for name in _NAMES)
# S3 allows 2 KB of metadata in all.
_MAX_VALUE = 400
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
# Linux alone has it; 0 in its place asks to write to a folder, which no system does.
_NAMELESS = os.O_WRONLY | os.O_CLOEXEC | getattr(os, "O_TMPFILE", 0)


class CropStore:
    """One store, shared by the threads of a process."""

    def __init__(self, spec: StoreSpec) -> None:
        self._store = open_store(spec)
        self._folder = spec.local_path
        self._names = _IDENTIFIERS if spec.address.cloud == "az" else _NAMES
        # PUTs at a time. A remote one waits; a local one is work, and handing it to a thread is work too: 0, none needed.
        self.concurrency = 0 if self._folder is not None else 12

    def put(self, work: ImageWork, batch: str, outcome: CropOutcome, data: bytes) -> CropOutcome:
        """Store the crop; the outcome with its key. The same work writes the same bytes to the same key.

        What is told beside the bytes is the same too, but for the batch: it is that of the last one who cut it. The
        catalogue names the one that counts. Raises PhotoFailure storage.
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
    """In a store's place: crops go back to whoever asked for them."""

    concurrency = 0

    def put(self, work: ImageWork, batch: str, outcome: CropOutcome, data: bytes) -> CropOutcome:  # noqa: ARG002 - as a store's
        """The outcome with the crop's bytes."""
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
    """Whole or not at all, and where obstore's LocalStore would put it; its own way takes several times as long."""
    try:
        _write_nameless(path, data)
    except FileExistsError:
        _write_again(path, data)
    except OSError:
        # Not every file system knows nameless files. A full or read-only one says so again.
        _write_named(path, data)


def _write_nameless(path: str, data: bytes) -> None:
    """The bytes get their name when all of them are there: a killed process leaves nothing behind."""
    folder = path.rpartition("/")[0]
    try:
        file = os.open(folder, _NAMELESS, 0o666)
    except FileNotFoundError:
        Path(folder).mkdir(parents=True, exist_ok=True)
        file = os.open(folder, _NAMELESS, 0o666)
    try:
        _fill(file, data)
        # Python follows the link to the open file only when it is told of a folder; the path is absolute all the same.
        os.link(f"/proc/self/fd/{file}", path, src_dir_fd=file, follow_symlinks=True)
    finally:
        os.close(file)


def _write_again(path: str, data: bytes) -> None:
    """The same work writes the same bytes: they stay as they are, as young as if they were written now."""
    if Path(path).read_bytes() == data:
        os.utime(path)
    else:
        _write_named(path, data)


def _write_named(path: str, data: bytes) -> None:
    """Names that end in ``#`` and digits are unfinished for LocalStore too: what a killed process leaves is not listed."""
    unfinished = f"{path}#{os.getpid()}"
    file = os.open(unfinished, _NEW, 0o666)
    try:
        try:
            _fill(file, data)
        finally:
            os.close(file)
        os.replace(unfinished, path)  # noqa: PTH105 - a Path for each of thousands of crops costs as much as the write
    except OSError:
        os.unlink(unfinished)  # noqa: PTH108 - as above; a full disk would keep one for each crop that it refused
        raise


def _fill(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _header(value: str) -> str:
    """Percent-encoded: ids may hold anything, headers only ASCII."""
    return quote(value.encode("utf-8", "surrogatepass"))[:_MAX_VALUE]

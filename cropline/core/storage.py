"""The object store: how it is opened, read and written. All object I/O uses obstore.

A StoreSpec holds no secret, so it can be sent to workers; credentials come from the cloud's own chain on each machine.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.core.errors import StorageError
from cropline.core.scrub import one_line
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from typing import BinaryIO

    from obstore.store import ObjectStore

# The part of an error's text to show, best first: S3's error code, a status, the client's message, the system's.
_SERVER_MESSAGES = [
    re.compile(pattern)
    for pattern in (
        r"<Code>(\w{1,64})</Code>",
        r"status code: ([0-9]{3})",
        r"HTTP error: ([a-z ]{1,60})",
        r": ([A-Za-z ]{1,60}) \(os error",
    )
]
_DELETED_AT_ONCE, _DELETES_IN_PARALLEL = 1_000, 16


HASTY_S = 5.0
"""Time limit (s) of a request that only checks whether a store answers."""


def open_store(spec: StoreSpec, *, within_s: float | None = None) -> ObjectStore:
    """Return the store of a spec. A process opens it once, so connections are reused.

    While the store fails, requests are retried for minutes. With ``within_s`` there is one retry, and each request ends
    within that many seconds. Raise StorageError when the address cannot be opened (unknown scheme, folder not writable,
    no credentials).
    """
    return _opened(spec, None if spec.scheme in ("file", "memory") else within_s)


@lru_cache(maxsize=64)
def _opened(spec: StoreSpec, within_s: float | None) -> ObjectStore:
    from cropline.core.clouds import open_cloud

    try:
        return open_cloud(spec, within_s)
    except OSError as error:
        raise StorageError(f"cannot use {spec.url}: {error.strerror or type(error).__name__}") from error
    except ValueError as error:
        raise StorageError(f"cannot use {spec.url}: {one_line(str(error))}") from None


def told_by(error: Exception) -> str:
    """Return the error code or status of a store's answer, empty when it has neither. Other text may hold anything."""
    return next((found[1] for pattern in _SERVER_MESSAGES if (found := pattern.search(str(error)))), "")


def _failed(action: str, spec: StoreSpec, error: Exception, key: str = "") -> StorageError:
    detail = told_by(error)
    why = f": {detail}" if detail else ""
    where = f" at {spec.endpoint}" if spec.endpoint else ""
    return StorageError(f"cannot {action} {spec.uri(key)}{where}: {type(error).__name__}{why}")


def read(spec: StoreSpec, key: str) -> bytes:
    """Return the object's bytes. Raise StorageError, also when it does not exist."""
    import obstore

    try:
        return bytes(obstore.get(open_store(spec), key).bytes())
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("read", spec, error, key) from error


def read_if_there(spec: StoreSpec, key: str) -> bytes | None:
    """Return the object's bytes; None when it does not exist."""
    import obstore

    try:
        return bytes(obstore.get(open_store(spec), key).bytes())
    except (FileNotFoundError, obstore.exceptions.NotFoundError):
        return None
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("read", spec, error, key) from error


def open_object(spec: StoreSpec, key: str, *, size: int | None = None) -> io.RawIOBase:
    """Return a seekable file of an object, for Parquet readers. A known ``size`` (bytes) saves a request.

    Raise StorageError, also when it does not exist; with ``size`` when it is read.
    """
    import obstore

    if size is not None:
        return _Object(spec, key, size)
    try:
        size = obstore.head(open_store(spec), key)["size"]
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("read", spec, error, key) from error
    return _Object(spec, key, size)


class _Object(io.RawIOBase):
    """A file that sends no request for a seek and fetches only what is read."""

    def __init__(self, spec: StoreSpec, key: str, size: int) -> None:
        self._spec, self._key, self._size = spec, key, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        import obstore

        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        try:
            part = obstore.get_range(open_store(self._spec), self._key, start=self._at, end=end)
        except (OSError, obstore.exceptions.BaseError) as error:
            raise _failed("read", self._spec, error, self._key) from error
        buffer[: len(part)] = memoryview(part)
        self._at += len(part)
        return len(part)


def read_range(spec: StoreSpec, key: str, start: int, length: int) -> bytes:
    """Return part of the object's bytes. Raise StorageError, also when it does not exist or is shorter."""
    import obstore

    try:
        data = bytes(obstore.get_range(open_store(spec), key, start=start, length=length))
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("read", spec, error, key) from error
    if len(data) != length:
        raise StorageError(f"{spec.uri(key)} ends before byte {start + length}")
    return data


def read_ranges(spec: StoreSpec, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return parts (offset, length) of the object's bytes; near ones with one request. Raise StorageError as read_range."""
    import obstore

    starts, lengths = [start for start, _ in ranges], [length for _, length in ranges]
    try:
        parts = [bytes(part) for part in obstore.get_ranges(open_store(spec), key, starts=starts, lengths=lengths)]
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("read", spec, error, key) from error
    if [len(part) for part in parts] != lengths:
        raise StorageError(f"{spec.uri(key)} is shorter than it was")
    return parts


def stream(spec: StoreSpec, key: str) -> Iterator[bytes]:
    """Yield the object's bytes in chunks. Raise StorageError, also when it does not exist."""
    import obstore

    try:
        for part in obstore.get(open_store(spec), key).stream():
            yield bytes(part)
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("read", spec, error, key) from error


def write(
    spec: StoreSpec, key: str, data: bytes | Path | BinaryIO, *, only_new: bool = False, within_s: float | None = None
) -> bool:
    """Write bytes or a local file at key, atomically. With only_new, return False and keep an object that exists."""
    import obstore

    try:
        obstore.put(open_store(spec, within_s=within_s), key, data, mode="create" if only_new else "overwrite")
    except obstore.exceptions.AlreadyExistsError:
        return False
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("write", spec, error, key) from error
    return True


def exists(spec: StoreSpec, key: str) -> bool:
    """Return whether an object exists at key."""
    import obstore

    try:
        obstore.head(open_store(spec), key)
    except (FileNotFoundError, obstore.exceptions.NotFoundError):
        return False
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("look at", spec, error, key) from error
    return True


def written_at(spec: StoreSpec, key: str, missing: datetime) -> datetime:
    """Return when the object was last written; ``missing`` when it does not exist."""
    import obstore

    try:
        return obstore.head(open_store(spec), key)["last_modified"]
    except (FileNotFoundError, obstore.exceptions.NotFoundError):
        return missing
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("look at", spec, error, key) from error


def list_keys(spec: StoreSpec, prefix: str) -> list[str]:
    """Return all keys below prefix, sorted."""
    import obstore

    try:
        return sorted(meta["path"] for page in obstore.list(open_store(spec), prefix=prefix) for meta in page)
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("list", spec, error, prefix) from error


def list_sizes(spec: StoreSpec, prefix: str) -> dict[str, int]:
    """Return key -> size (bytes) of everything below prefix."""
    import obstore

    try:
        return {meta["path"]: meta["size"] for page in obstore.list(open_store(spec), prefix=prefix) for meta in page}
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("list", spec, error, prefix) from error


def list_written(spec: StoreSpec, prefix: str) -> list[tuple[datetime, str]]:
    """Return (time of the last write, key) of all keys below prefix."""
    import obstore

    try:
        return [
            (meta["last_modified"], meta["path"])
            for page in obstore.list(open_store(spec), prefix=prefix)
            for meta in page
        ]
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("list", spec, error, prefix) from error


@dataclass(frozen=True)
class Listed:
    """One object of a listing. ``version`` changes when the object is written again."""

    key: str
    size: int
    modified: datetime
    version: str


def head(spec: StoreSpec, key: str) -> Listed | None:
    """Return one object's facts; None when it does not exist. Raise StorageError."""
    import obstore

    try:
        return _listed(obstore.head(open_store(spec), key))
    except (FileNotFoundError, obstore.exceptions.NotFoundError):
        return None
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("look at", spec, error, key) from error


def _listed(meta: Any) -> Listed:
    version = meta["e_tag"] or f"{meta['last_modified'].isoformat()} {meta['size']}"
    return Listed(meta["path"], meta["size"], meta["last_modified"], version)


def list_objects(spec: StoreSpec, prefix: str, after: str | None = None) -> Iterator[Listed]:
    """Yield the objects of a bucket below prefix, a page of the store at a time, in the order of their keys.

    ``after``: begin behind this key; the store skips what is before. Raise StorageError.
    """
    import obstore

    try:
        for page in obstore.list(open_store(spec), prefix=prefix, offset=after):
            yield from map(_listed, page)
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("list", spec, error, prefix) from error


def list_folders(spec: StoreSpec, prefix: str) -> list[str]:
    """Return the folders directly below prefix, as prefixes without a trailing slash."""
    import obstore

    try:
        return sorted(obstore.list_with_delimiter(open_store(spec), prefix)["common_prefixes"])
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("list", spec, error, prefix) from error


def delete(spec: StoreSpec, keys: Sequence[str]) -> None:
    """Delete objects; keys without an object are ignored."""
    if spec.scheme in ("file", "memory"):
        for key in keys:
            _delete_one(spec, key)
    else:
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            _delete_together(spec, list(keys[start : start + _DELETED_AT_ONCE]))


def _delete_together(spec: StoreSpec, keys: list[str]) -> None:
    import obstore

    try:
        obstore.delete(open_store(spec), keys)
    except (FileNotFoundError, obstore.exceptions.NotFoundError):
        # S3 ignores missing keys. Other stores stop at the first one, and the keys after it still need deleting.
        with ThreadPoolExecutor(_DELETES_IN_PARALLEL, thread_name_prefix="delete") as pool:
            for _ in pool.map(lambda key: _delete_one(spec, key), keys):
                pass
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("delete below", spec, error) from error


def _delete_one(spec: StoreSpec, key: str) -> None:
    import obstore

    try:
        obstore.delete(open_store(spec), key)
    except (FileNotFoundError, obstore.exceptions.NotFoundError):
        return
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("delete", spec, error, key) from error


def check_writable(spec: StoreSpec) -> None:
    """Prove that the store accepts writes before a run depends on it; else raise StorageError."""
    write(spec, ".cropline/writable", b"")

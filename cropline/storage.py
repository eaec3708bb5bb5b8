"""The object store, opened from a URL: ``file:///``, ``s3://``, ``memory:///``. All object I/O goes through obstore.

Belongs here: opening a store and the few calls that every step makes. Does not: key layout (keys.py) or the Delta table
(catalogue.py). A StoreSpec holds no secret, so it may travel to workers: credentials come from boto3's chain where it is used.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from cropline.errors import StorageError
from cropline.scrub import one_line

if TYPE_CHECKING:
    from typing import BinaryIO

    from boto3 import Session
    from botocore.credentials import Credentials
    from obstore.store import ObjectStore

# Of an error's text, the most telling first: S3's error code, a status, the client's own words, the system's.
_TOLD = [
    re.compile(pattern)
    for pattern in (
        r"<Code>(\w{1,64})</Code>",
        r"status code: ([0-9]{3})",
        r"HTTP error: ([a-z ]{1,60})",
        r": ([A-Za-z ]{1,60}) \(os error",
    )
]


@dataclass(frozen=True)
class StoreSpec:
    """Where outputs lie. Picklable; equal specs share one store in a process."""

    url: str
    endpoint: str | None = None  # an S3-speaking server other than AWS, http://host:port
    region: str | None = None

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def local_path(self) -> Path | None:
        """The folder behind a file:// URL, else None."""
        return Path(unquote(urlsplit(self.url).path)) if self.scheme == "file" else None

    def uri(self, key: str) -> str:
        """The full address of an object, for people and for lineage."""
        return f"{self.url.rstrip('/')}/{key}"


@lru_cache(maxsize=16)
def open_store(spec: StoreSpec) -> ObjectStore:
    """The store behind a spec; one a process, so that connections are reused.

    Raises StorageError when the URL cannot be opened (unknown scheme, folder not writable).
    """
    from obstore.store import LocalStore, MemoryStore, S3Store

    try:
        if spec.scheme == "memory":
            return MemoryStore()
        if spec.local_path is not None:
            spec.local_path.mkdir(parents=True, exist_ok=True)
            return LocalStore(prefix=spec.local_path)
        if spec.scheme == "s3":
            return _open_s3(spec, S3Store)
    except OSError as error:
        raise StorageError(f"cannot use {spec.url}: {error.strerror or type(error).__name__}") from error
    raise StorageError(f"cannot use {spec.url}: the scheme must be file, s3 or memory")


def _open_s3(spec: StoreSpec, store: type) -> ObjectStore:
    from obstore.auth.boto3 import Boto3CredentialProvider

    parts = urlsplit(spec.url)
    session, _ = aws(spec)
    options: dict[str, object] = {}
    if spec.endpoint is not None:
        options = {
            "endpoint": spec.endpoint,
            "virtual_hosted_style_request": False,
            "client_options": {"allow_http": spec.endpoint.startswith("http://")},
        }
    opened: ObjectStore = store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        region=spec.region or session.region_name or "us-east-1",
        credential_provider=Boto3CredentialProvider(session),
        **options,
    )
    return opened


def aws(spec: StoreSpec) -> tuple[Session, Credentials]:
    """boto3's session and its credentials. Raises StorageError when its chain holds none, or a wrong one."""
    from boto3 import Session
    from botocore.exceptions import BotoCoreError

    try:
        session = Session(region_name=spec.region) if spec.region else Session()
        credentials = session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"cannot use {spec.url}: {one_line(str(error))}") from None
    if credentials is None:
        raise StorageError(
            f"cannot use {spec.url}: no credentials; boto3 found none in the environment, in ~/.aws or of a role"
        )
    return session, credentials


def _failed(action: str, spec: StoreSpec, error: Exception, key: str = "") -> StorageError:
    """What went wrong: of the store's answer its error code or status, and nothing else. It may hold anything."""
    told = next((found[1] for pattern in _TOLD if (found := pattern.search(str(error)))), "")
    why = f": {told}" if told else ""
    where = f" at {spec.endpoint}" if spec.endpoint else ""
    return StorageError(f"cannot {action} {spec.uri(key)}{where}: {type(error).__name__}{why}")


def read(spec: StoreSpec, key: str) -> bytes:
    """The object's bytes. Raises StorageError, also when it is not there."""
    import obstore

    try:
        return bytes(obstore.get(open_store(spec), key).bytes())
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("read", spec, error, key) from error


def open_object(spec: StoreSpec, key: str) -> io.RawIOBase:
    """An object to read parts of, as Parquet readers do. Raises StorageError, also when it is not there."""
    import obstore

    try:
        size = obstore.head(open_store(spec), key)["size"]
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("read", spec, error, key) from error
    return _Object(spec, key, size)


class _Object(io.RawIOBase):
    """Seeks without asking, and asks for what is read, no more."""

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
    """Some of the object's bytes. Raises StorageError, also when it is not there or shorter."""
    import obstore

    try:
        data = bytes(obstore.get_range(open_store(spec), key, start=start, length=length))
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("read", spec, error, key) from error
    if len(data) != length:
        raise StorageError(f"{spec.uri(key)} ends before byte {start + length}")
    return data


def stream(spec: StoreSpec, key: str) -> Iterator[bytes]:
    """The object's bytes in parts. Raises StorageError, also when it is not there."""
    import obstore

    try:
        for part in obstore.get(open_store(spec), key).stream():
            yield bytes(part)
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("read", spec, error, key) from error


def write(spec: StoreSpec, key: str, data: bytes | Path | BinaryIO, *, only_new: bool = False) -> bool:
    """Put bytes, or a local file's, at key, whole or not at all. With only_new an object that is there stays; False says so."""
    import obstore

    try:
        obstore.put(open_store(spec), key, data, mode="create" if only_new else "overwrite")
    except obstore.exceptions.AlreadyExistsError:
        return False
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("write", spec, error, key) from error
    return True


def exists(spec: StoreSpec, key: str) -> bool:
    """Whether an object lies at key."""
    import obstore

    try:
        obstore.head(open_store(spec), key)
    except (FileNotFoundError, obstore.exceptions.NotFoundError):
        return False
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("look at", spec, error, key) from error
    return True


def written_at(spec: StoreSpec, key: str, missing: datetime) -> datetime:
    """When the object was last written; ``missing`` when it is not there."""
    import obstore

    try:
        return obstore.head(open_store(spec), key)["last_modified"]
    except (FileNotFoundError, obstore.exceptions.NotFoundError):
        return missing
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("look at", spec, error, key) from error


def list_keys(spec: StoreSpec, prefix: str) -> list[str]:
    """All keys below prefix, sorted."""
    import obstore

    try:
        return sorted(meta["path"] for page in obstore.list(open_store(spec), prefix=prefix) for meta in page)
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("list", spec, error, prefix) from error


def list_written(spec: StoreSpec, prefix: str) -> list[tuple[datetime, str]]:
    """(when it was written, key) of all keys below prefix."""
    import obstore

    try:
        return [
            (meta["last_modified"], meta["path"])
            for page in obstore.list(open_store(spec), prefix=prefix)
            for meta in page
        ]
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("list", spec, error, prefix) from error


def list_folders(spec: StoreSpec, prefix: str) -> list[str]:
    """The names directly below prefix that have keys below them, as prefixes without a slash at their end."""
    import obstore

    try:
        return sorted(obstore.list_with_delimiter(open_store(spec), prefix)["common_prefixes"])
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _failed("list", spec, error, prefix) from error


def delete(spec: StoreSpec, keys: Sequence[str]) -> None:
    """Take the objects away; those that are not there are passed over."""
    import obstore

    store = open_store(spec)
    # A local store stops at the first one that is missing.
    parts = [[key] for key in keys] if spec.local_path is not None else [list(keys)]
    for part in parts:
        try:
            if part:
                obstore.delete(store, part)
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            continue
        except (OSError, obstore.exceptions.BaseError) as error:
            raise _failed("delete below", spec, error) from error


def check_writable(spec: StoreSpec) -> None:
    """Prove that the store takes writes before a run depends on it; StorageError in one line when not."""
    write(spec, ".cropline-writable", b"")

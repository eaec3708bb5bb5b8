"""Photos in a bucket or a folder: s3://, gs://, az://, abfss:// and file:// addresses, if the settings allow them."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cropline.core.crop_options import AllowedBucket, FetchOptions
from cropline.core.errors import StorageError
from cropline.core.failures import PhotoFailure
from cropline.core.storage import open_store, told_by
from cropline.core.store_address import StoreAddress, read_address
from cropline.core.store_spec import StoreSpec
from fugue_jobs.fetching.answers import Body

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_STORED = re.compile(r"(s3|gs|az|abfss?|file)://", re.IGNORECASE)
# Keys that could mean two objects, or that no store accepts (an empty folder).
_ODD_KEY = re.compile(r"[\x00-\x1f\x7f\\]|(?:^|/)(?:\.{1,2})?(?:/|$)")
_REFUSED = ("AccessDenied", "401", "403")


def is_stored(url: str) -> bool:
    """Return whether an address is one for StoredPhotos."""
    return _STORED.match(url) is not None


@dataclass(frozen=True)
class _Object:
    """A photo in a bucket. Only ``bucket`` may be shown."""

    address: StoreAddress
    bucket: str  # s3://name
    key: str


class StoredPhotos:
    """Reads photos of buckets, with the storage's credentials, and of folders. One per process, one client per bucket.

    ``store``: where the crops go. A bucket of the same cloud uses its endpoint, region and account.
    """

    def __init__(self, options: FetchOptions, store: StoreSpec | None) -> None:
        self._options = options
        self._store = store

    def read(self, url: str) -> Body:
        """Read the photo. Raise PhotoFailure, whose detail holds no key and no path."""
        if url[:5].lower() == "file:":
            return _body(self._read_file(url))
        found = _read_object_url(url)
        if not any(_holds(allowed, found) for allowed in self._options.buckets):
            raise PhotoFailure("forbidden_place", f"{found.bucket} is not in FETCH__ALLOWED_BUCKETS")
        return _body(self._read_object(found))

    def _read_object(self, found: _Object) -> bytes:
        import obstore

        failure: PhotoFailure
        try:
            answer = obstore.get(self._opened(found), found.key)
            size = answer.meta["size"]
            if size <= self._options.max_bytes:
                return bytes(answer.bytes())
            failure = PhotoFailure("too_large", f"{size} bytes, {self._options.max_bytes} are allowed")
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            failure = PhotoFailure("http_404", f"{found.bucket} does not have it")
        except ValueError:
            failure = PhotoFailure("bad_url", "not a valid object key")
        except StorageError:
            failure = PhotoFailure("connection", f"{found.bucket} cannot be opened: check the credentials of its cloud")
        except (OSError, obstore.exceptions.BaseError) as error:
            failure = _failure(found.bucket, error)
        # Raised out here: the handled error holds the key.
        raise failure

    def _opened(self, found: _Object) -> ObjectStore:
        cloud, options = found.address.cloud, self._options
        same = self._store if self._store is not None and self._store.address.cloud == cloud else None
        spec = StoreSpec(
            found.bucket,
            options.bucket_endpoints.get(cloud) or (same.endpoint if same else None),
            same.region if same else None,
            same.account if same else None,
        )
        return open_store(spec, within_s=options.timeout_s)

    def _read_file(self, url: str) -> bytes:
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or "\0" in path or path[:1] != "/":
            raise PhotoFailure("bad_url", "not file:///folder/name")
        failure: PhotoFailure
        try:
            return self._read_below_a_root(os.path.realpath(path))
        except OSError as error:
            gone = isinstance(error, FileNotFoundError | NotADirectoryError)
            failure = PhotoFailure("http_404" if gone else "http_4xx", f"the file: {error.strerror}")
        raise failure

    def _read_below_a_root(self, path: str) -> bytes:
        """Read ``path``, without symlinks. It must be below a root, before it is opened and, if possible, after."""
        roots = [os.path.realpath(root) for root in self._options.local_roots]
        self._hold_to(roots, path)
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if os.path.exists(opened := f"/proc/self/fd/{file}"):  # noqa: PTH110 - a string for realpath
                self._hold_to(roots, os.path.realpath(opened))
            facts = os.fstat(file)
            if not stat.S_ISREG(facts.st_mode):
                raise PhotoFailure("not_a_picture", "not a regular file")
            if facts.st_size > self._options.max_bytes:
                raise PhotoFailure("too_large", f"{facts.st_size} bytes, {self._options.max_bytes} are allowed")
            with os.fdopen(file, "rb", closefd=False) as opened_file:
                return opened_file.read(self._options.max_bytes)
        finally:
            os.close(file)

    def _hold_to(self, roots: list[str], path: str) -> None:
        if not any(os.path.commonpath([root, path]) == root and path != root for root in roots):
            raise PhotoFailure("forbidden_place", "the file is not below any of FETCH__LOCAL_ROOTS")


def _read_object_url(url: str) -> _Object:
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    # Keys are used as written, as every tool for buckets does.
    if not key or _ODD_KEY.search(key):
        raise PhotoFailure("bad_url", f"not {scheme.lower()}://bucket/key")
    root = f"{scheme.lower()}://{bucket}"
    failure = PhotoFailure("bad_url", f"not {scheme.lower()}://bucket/key")
    try:
        return _Object(read_address(root), root, key)
    except ValueError:
        pass
    raise failure


def _holds(allowed: AllowedBucket, found: _Object) -> bool:
    address = found.address
    same = allowed.bucket == address.bucket and allowed.account == address.account
    below = not allowed.prefix or found.key.startswith(f"{allowed.prefix}/")
    return same and below and allowed.cloud in (None, address.cloud)


def _failure(bucket: str, error: Exception) -> PhotoFailure:
    told = told_by(error) or type(error).__name__
    text = str(error)
    if isinstance(error, PermissionError) or type(error).__name__ in _DENIED or told in _REFUSED:
        return PhotoFailure("http_4xx", f"{bucket} refused it: {told}")
    if "timed out" in text or "TimedOut" in text:
        return PhotoFailure("timeout", f"{bucket} took too long")
    return PhotoFailure("http_5xx" if told.startswith("5") else "connection", f"{bucket}: {told}")


_DENIED = ("PermissionDeniedError", "UnauthenticatedError")


def _body(data: bytes) -> Body:
    return Body(data, hashlib.sha256(data).hexdigest(), is_whole=True)

"""Checks that a store has the features that cropline needs. They use random keys below the storage's prefix."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from time import sleep
from typing import TYPE_CHECKING

from cropline.core import storage
from cropline.core.errors import StorageError
from cropline.core.storage import open_store, told_by
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RECORD = ".cropline/probe.json"
"""Key of the record that a store passed its checks: later runs skip them."""

_CHECKS = 1  # version of the checks; a higher number probes every store again
_FOLDER = ".cropline/probe-"
_AT_ONCE = 4
_TRIES = 3
_WAIT_S = 1.0  # between tries of an overloaded store; the second wait is twice as long
_DATA = b"0123456789"
_LISTS = "a list must show a new object at once: use a consistent store without a cache in front of it"

# Errors of a store that is down or overloaded: they say nothing about its features.
_STUMBLED = re.compile(r"status code: (429|500|502|503|504)|HTTP error|error sending request|operation timed out")

_proven: set[StoreSpec] = set()  # in this process


@dataclass(frozen=True)
class Promise:
    """A feature that cropline needs; ``broken`` says what the store did instead, None when it has the feature."""

    name: str
    remedy: str
    broken: str | None


_Check = Callable[["ObjectStore", str], str | None]


class _Unclear(Exception):
    """A lost reply looks the same: a request was executed, and its repetition by the client found it done."""


class _Stumbled(StorageError):
    """The store is down or overloaded."""


def probe(spec: StoreSpec) -> tuple[Promise, ...]:
    """Check every feature with about 20 requests. Raise StorageError when the store is down or refuses all writes.

    What a lost reply or an overloaded store may have caused is checked again, in a fresh folder, before it counts.
    The probe deletes its keys, as far as the store allows it.
    """
    for tried in range(1, _TRIES + 1):
        try:
            found, unclear = _probe_once(spec)
        except _Stumbled:
            if tried == _TRIES:
                raise
            sleep(_WAIT_S * tried)
            continue
        broken = {promise.name for promise in found if promise.broken}
        if tried == _TRIES or not broken or broken - unclear:
            break
    return found


def _probe_once(spec: StoreSpec) -> tuple[tuple[Promise, ...], set[str]]:
    """Return the promises, and the names of those that may be broken because a reply was lost."""
    import obstore

    store = open_store(spec, within_s=storage.HASTY_S)
    folder = f"{_FOLDER}{secrets.token_hex(8)}"
    storage.write(spec, f"{folder}/b", _DATA)
    found, unclear = [], set()
    with _cleared(spec, store, folder):
        for name, remedy, check in _promises(spec):
            try:
                broken = check(store, folder)
            except NotImplementedError:
                broken = "the store's client cannot do it"
            except _Unclear as error:
                broken = str(error)
                unclear.add(name)
            except (OSError, obstore.exceptions.BaseError) as error:
                if _STUMBLED.search(str(error)):
                    why = told_by(error) or type(error).__name__
                    raise _Stumbled(f"cannot check {spec.url}: {why}") from error
                broken = f"the store answers {told_by(error) or type(error).__name__}"
            found.append(Promise(name, remedy, broken))
    return tuple(found), unclear


def require(spec: StoreSpec, *, again: bool = False) -> None:
    """Check a store before anything depends on it: once per store, or ``again``.

    The result is stored below the storage.

    Raise StorageError in one line that names the first missing feature and the remedy.
    """
    if not again and (spec in _proven or _is_remembered(spec)):
        storage.check_writable(spec)
        _proven.add(spec)
        return
    broken = next((promise for promise in probe(spec) if promise.broken), None)
    if broken is not None:
        raise StorageError(refusal(spec, broken))
    remember(spec)


def refusal(spec: StoreSpec, promise: Promise) -> str:
    """Return why a store cannot be used, in one line."""
    where = f" at {spec.endpoint}" if spec.endpoint else ""
    return f"{spec.url}{where} cannot be used, {promise.name} is missing: {promise.broken}; {promise.remedy}"


def _is_remembered(spec: StoreSpec) -> bool:
    try:
        record = json.loads(storage.read_if_there(spec, RECORD) or b"null")
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("checks") == _CHECKS and record.get("endpoint") == spec.endpoint


def remember(spec: StoreSpec) -> None:
    """Record that the store passed, for later runs of this and other processes."""
    record = {
        "checks": _CHECKS,
        "endpoint": spec.endpoint,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("cropline", "obstore", "deltalake")},
    }
    storage.write(spec, RECORD, json.dumps(record, indent=1).encode())
    _proven.add(spec)


def _promises(spec: StoreSpec) -> Iterator[tuple[str, str, _Check]]:
    yield (
        "create-if-absent (a PUT with If-None-Match)",
        "without it two runs overwrite each other's commits: upgrade the store (Ceph and MinIO have it since 2024) or use "
        "one that has it, such as AWS S3, Google Cloud by gs:// or Azure by az://",
        _creates_once,
    )
    yield (
        "create-if-absent of concurrent writers",
        "two runs would overwrite each other's commits: use a store that lets one writer win",
        _one_of_many_creates,
    )
    yield "reading a range", "packs and Parquet files are read in parts: use a store that honours Range", _reads_ranges
    yield "listing after a write", _LISTS, _lists
    yield (
        "listing after a key (start-after)",
        "the catalogue's log is read that way: use a store that supports start-after",
        _lists_after,
    )
    # Local stores keep no metadata, and cropline writes none there.
    if spec.scheme not in ("file", "memory"):
        yield (
            "metadata of objects",
            "each crop carries its content type and origin: let proxies pass headers that begin with x-amz-meta-",
            _keeps_metadata,
        )
    yield (
        "delete",
        "erasure and maintenance remove objects: give the key the right to delete, and use a bucket without a lock",
        _deletes,
    )


def _creates_once(store: ObjectStore, folder: str) -> str | None:
    import obstore

    key = f"{folder}/a"
    try:
        obstore.put(store, key, b"first", mode="create")
    except obstore.exceptions.AlreadyExistsError:
        raise _Unclear("the store says that a new key exists") from None
    try:
        obstore.put(store, key, b"second", mode="create")
    except obstore.exceptions.AlreadyExistsError:
        kept = bytes(obstore.get(store, key).bytes())
        return None if kept == b"first" else "the store refused the second PUT but kept its bytes"
    return "the store accepted a second PUT over the first"


def _one_of_many_creates(store: ObjectStore, folder: str) -> str | None:
    import obstore

    key = f"{folder}/race"

    def create(writer: int) -> bytes | None:
        data = f"writer {writer}".encode()
        try:
            obstore.put(store, key, data, mode="create")
        except obstore.exceptions.AlreadyExistsError:
            return None
        return data

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="probe") as pool:
        won = [data for data in pool.map(create, range(_AT_ONCE)) if data is not None]
    if not won:
        raise _Unclear(f"of {_AT_ONCE} concurrent PUTs, none got the answer that it created the object")
    if len(won) > 1:
        return f"of {_AT_ONCE} concurrent PUTs, {len(won)} got the answer that they created the object"
    kept = bytes(obstore.get(store, key).bytes())
    return None if kept == won[0] else "the store keeps other bytes than those of the PUT that won"


def _reads_ranges(store: ObjectStore, folder: str) -> str | None:
    import obstore

    part = bytes(obstore.get_range(store, f"{folder}/b", start=2, end=5))
    return None if part == _DATA[2:5] else f"3 bytes were requested and {len(part)} were returned"


def _lists(store: ObjectStore, folder: str) -> str | None:
    import obstore

    obstore.put(store, f"{folder}/c", _DATA)
    found = _listed(store, folder)
    return None if {"b", "c"} <= found else f"a list shows {', '.join(sorted(found)) or 'nothing'} instead of b and c"


def _lists_after(store: ObjectStore, folder: str) -> str | None:
    found = _listed(store, folder, offset=f"{folder}/b") - {"race"}
    return None if found == {"c"} else f"a list after b shows {', '.join(sorted(found)) or 'nothing'} instead of only c"


def _keeps_metadata(store: ObjectStore, folder: str) -> str | None:
    import obstore

    key = f"{folder}/d"
    obstore.put(store, key, _DATA, attributes={"Content-Type": "image/jpeg", "probe": "1"}, use_multipart=False)
    kept = obstore.get(store, key).attributes
    lost = [name for name, value in (("Content-Type", "image/jpeg"), ("probe", "1")) if kept.get(name) != value]
    return f"{' and '.join(lost)} of an object were lost" if lost else None


def _deletes(store: ObjectStore, folder: str) -> str | None:
    import obstore

    key = f"{folder}/b"
    try:
        obstore.delete(store, key)
    except (FileNotFoundError, obstore.exceptions.NotFoundError):
        raise _Unclear("the store says that an object is missing before it is deleted") from None
    try:
        obstore.head(store, key)
    except (FileNotFoundError, obstore.exceptions.NotFoundError):
        return "a list still shows a deleted object" if "b" in _listed(store, folder) else None
    return "a deleted object is still there"


def _listed(store: ObjectStore, folder: str, *, offset: str | None = None) -> set[str]:
    import obstore

    pages = obstore.list(store, prefix=folder, offset=offset)
    return {meta["path"].rpartition("/")[2] for page in pages for meta in page}


@contextmanager
def _cleared(spec: StoreSpec, store: ObjectStore, folder: str) -> Iterator[None]:
    """Delete the probe's objects at the end, also after an error."""
    import obstore

    try:
        yield
    finally:
        for name in ("a", "b", "c", "d", "race"):
            with suppress(OSError, obstore.exceptions.BaseError, NotImplementedError):
                obstore.delete(store, f"{folder}/{name}")
        if spec.local_path is not None:
            with suppress(OSError):
                (spec.local_path / folder).rmdir()

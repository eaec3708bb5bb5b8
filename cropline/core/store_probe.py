"""Whether a store keeps the promises that the product relies on, tried out with one random key below the storage's prefix."""

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
from typing import TYPE_CHECKING

from cropline.core import storage
from cropline.core.errors import StorageError
from cropline.core.storage import open_store, told_by
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RECORD = ".cropline/probe.json"
"""Key of what is remembered of a store that keeps its promises: runs do not probe it again."""

_CHECKS = 1  # of this module; a higher number makes every store be probed anew
_FOLDER = ".cropline/probe-"
_AT_ONCE = 4
_DATA = b"0123456789"
_LISTS = "lists must show at once what was written: use a store that is consistent, without a cache before it"

# Says nothing of what the store can do: it is away or overloaded.
_STUMBLED = re.compile(r"status code: (429|500|502|503|504)|HTTP error|error sending request|operation timed out")

_proven: set[StoreSpec] = set()  # by this process


@dataclass(frozen=True)
class Promise:
    """One thing that the product relies on; ``broken`` says what the store did instead, None when it kept it."""

    name: str
    remedy: str
    broken: str | None


_Check = Callable[["ObjectStore", str], str | None]


def probe(spec: StoreSpec) -> tuple[Promise, ...]:
    """Try every promise; about 20 requests. Raises StorageError when the store is away, or takes no write at all.

    The keys of the probe are removed again, as far as the store removes anything.
    """
    import obstore

    store = open_store(spec, within_s=storage.HASTY_S)
    folder = f"{_FOLDER}{secrets.token_hex(8)}"
    storage.write(spec, f"{folder}/b", _DATA)
    with _cleared(spec, store, folder):
        found = []
        for name, remedy, check in _promises(spec):
            try:
                broken = check(store, folder)
            except NotImplementedError:
                broken = "the store's client cannot do it"
            except (OSError, obstore.exceptions.BaseError) as error:
                if _STUMBLED.search(str(error)):
                    raise StorageError(
                        f"cannot try out {spec.url}: {told_by(error) or type(error).__name__}"
                    ) from error
                broken = f"the store answers {told_by(error) or type(error).__name__}"
            found.append(Promise(name, remedy, broken))
    return tuple(found)


def require(spec: StoreSpec, *, again: bool = False) -> None:
    """Prove the store before anything depends on it, and remember that below the storage: once a store, or ``again``.

    Raises StorageError in one line that names the first promise it breaks and what to do about it.
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
    """Why a store cannot be used, in one line."""
    where = f" at {spec.endpoint}" if spec.endpoint else ""
    return f"{spec.url}{where} cannot be used, {promise.name} is missing: {promise.broken}; {promise.remedy}"


def _is_remembered(spec: StoreSpec) -> bool:
    try:
        record = json.loads(storage.read_if_there(spec, RECORD) or b"null")
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("checks") == _CHECKS and record.get("endpoint") == spec.endpoint


def remember(spec: StoreSpec) -> None:
    """Runs of this and other processes take the store as proven from now on."""
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
        "create-if-absent of writers at one moment",
        "two runs would overwrite each other's commits: use a store that lets one writer win",
        _one_of_many_creates,
    )
    yield "reading a range", "packs and Parquet files are read in parts: use a store that honours Range", _reads_ranges
    yield "listing after a write", _LISTS, _lists
    yield (
        "listing after a key (start-after)",
        "the catalogue's log is read so: use a store whose lists begin after a key",
        _lists_after,
    )
    # A local store keeps no metadata, and nothing is written there with any.
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
    obstore.put(store, key, b"first", mode="create")
    try:
        obstore.put(store, key, b"second", mode="create")
    except obstore.exceptions.AlreadyExistsError:
        kept = bytes(obstore.get(store, key).bytes())
        return None if kept == b"first" else "the store refused the second PUT and kept its bytes all the same"
    return "the store took a second PUT over the first"


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
    if len(won) != 1:
        return f"of {_AT_ONCE} PUTs at one moment {len(won)} were told that they created it"
    kept = bytes(obstore.get(store, key).bytes())
    return None if kept == won[0] else "the store keeps other bytes than those of the PUT that won"


def _reads_ranges(store: ObjectStore, folder: str) -> str | None:
    import obstore

    part = bytes(obstore.get_range(store, f"{folder}/b", start=2, end=5))
    return None if part == _DATA[2:5] else f"3 bytes were asked for and {len(part)} came"


def _lists(store: ObjectStore, folder: str) -> str | None:
    import obstore

    obstore.put(store, f"{folder}/c", _DATA)
    found = _listed(store, folder)
    return None if {"b", "c"} <= found else f"a list shows {', '.join(sorted(found)) or 'nothing'} where b and c lie"


def _lists_after(store: ObjectStore, folder: str) -> str | None:
    found = _listed(store, folder, offset=f"{folder}/b") - {"race"}
    return (
        None
        if found == {"c"}
        else f"a list after b shows {', '.join(sorted(found)) or 'nothing'} where c alone is left"
    )


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
    obstore.delete(store, key)
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
    """Whatever comes, nothing of the probe stays where the store can remove it."""
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

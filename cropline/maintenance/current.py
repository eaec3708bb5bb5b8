"""Writes beside each pack the keys of its current crops, for readers of packs that do not read the catalogue.

``<pack>.current.json`` is written whole, and only when it changes. ``shards/current.json`` comes last: every index is at
least as new as the version of the catalogue that it names. A pack without an index is newer, or has no current crop.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cropline.catalogue import Catalogue, sql
from cropline.core import storage
from cropline.maintenance.lock import erasure_lock
from cropline.maintenance.packs import named_packs
from cropline.packs.spool import CURRENT, SHARDS, current_key

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec
    from cropline.state import State

_PACKS_AT_ONCE = 16
_ROWS = 10_000


def index_packs(spec: StoreSpec, state: State) -> int:
    """Bring the indexes to the newest version. Return how many changed.

    Indexes of a source that an erasure is working on stay for the next time, and so does ``shards/current.json``.
    """
    there = set(storage.list_keys(spec, f"{SHARDS}/"))
    version, at = Catalogue(spec).version(), datetime.now(UTC)
    if version is None or not there:
        return 0
    packs = named_packs(spec)
    # First: a crop that moved to another pack must not be in two indexes.
    named = {current_key(pack.key) for pack in packs}
    stale = sorted(key for key in there - named if key.endswith(current_key("")))
    storage.delete(spec, stale)
    changed, complete = len(stale), True
    for source in sorted({pack.source for pack in packs}):
        with erasure_lock(state, source) as lock:
            if lock is None:
                complete = False
            else:
                changed += _index_source(spec, source, there, lock.renew)
    if complete:
        told = {"catalogue_version": version, "at": at.isoformat()}
        storage.write(spec, CURRENT, json.dumps(told).encode())
    return changed


def _index_source(spec: StoreSpec, source: str, there: set[str], check_lock: Callable[[], None]) -> int:
    def put(entry: tuple[str, bytes]) -> bool:
        pack, index = entry
        key = current_key(pack)
        if pack not in there or (key in there and storage.read(spec, key) == index):
            return False
        check_lock()
        storage.write(spec, key, index)
        return True

    changed, packs = 0, _current(spec, source)
    with ThreadPoolExecutor(_PACKS_AT_ONCE, thread_name_prefix="packs") as pool:
        while part := list(itertools.islice(packs, _PACKS_AT_ONCE)):
            changed += sum(pool.map(put, part))
    return changed


def _current(spec: StoreSpec, source: str) -> Iterator[tuple[str, bytes]]:
    """Yield each pack of the source with its index. One index is in memory at a time; the rows are sorted on disk."""
    read = Catalogue(spec).read_version(columns=["source", "shard", "key", "status"])
    with (
        tempfile.TemporaryDirectory(prefix="cropline-") as folder,
        sql.reading(read.version),
        sql.connect(read.rows, str(Path(folder) / "packs.duckdb")) as database,
    ):
        database.execute("SET memory_limit = '300MB'")
        found = database.execute(
            f"SELECT shard, key FROM {sql.TABLE} WHERE source = $1 AND status = 'written' AND shard IS NOT NULL "  # noqa: S608
            "ORDER BY shard, key",
            [source],
        )
        pairs = (pair for part in iter(lambda: found.fetchmany(_ROWS), []) for pair in part)
        for pack, crops in itertools.groupby(pairs, key=lambda pair: pair[0]):
            yield pack, json.dumps({"keys": [key for _, key in crops]}, separators=(",", ":")).encode()

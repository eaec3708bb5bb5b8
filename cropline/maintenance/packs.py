"""Rewrites packs in which too many crops are dead: superseded, or expired. Readers of whole packs then read less.

The old pack stays while a version of the catalogue names it; then it is an orphan. An erasure must not run meanwhile,
since the new pack could get a crop that it removes: the lock of erasures is held.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cropline.catalogue import Catalogue, sql
from cropline.core import storage
from cropline.maintenance.lock import erasure_lock
from cropline.maintenance.result import CleanupResult
from cropline.packs import index_key
from cropline.packs.spool import SHARDS
from cropline.pipeline.pack_rewrite import rewrite

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec
    from cropline.state import State

DEAD_SHARE = 0.3
"""A pack is rewritten when more than this share of its crops is dead."""


@dataclass(frozen=True)
class NamedPack:
    """A pack that current rows name, with the number and bytes of its current crops."""

    key: str
    source: str
    live: int
    live_bytes: int


def rewrite_packs(spec: StoreSpec, state: State, *, dry_run: bool) -> CleanupResult:
    """Rewrite the packs whose share of dead crops exceeds DEAD_SHARE. Return how many, and the bytes of dead crops."""
    count = size = 0
    sizes = storage.list_sizes(spec, f"{SHARDS}/")
    packs = [pack for pack in named_packs(spec) if _may_be_dead(pack, sizes)]
    for source in sorted({pack.source for pack in packs}):
        with erasure_lock(state, source, dry_run=dry_run) as held:
            if held is None:
                continue
            for pack in packs:
                if pack.source == source and _is_dead(pack, _crops(spec, pack.key)):
                    if not dry_run:
                        rewrite(spec, pack.key, source, (), held.renew)
                    count += 1
                    size += max(0, sizes[pack.key] - pack.live_bytes)
    return CleanupResult("packs with many superseded crops, rewritten", count, size)


def named_packs(spec: StoreSpec) -> list[NamedPack]:
    """Return the packs that current rows name. Reads four columns of the table."""
    catalogue = Catalogue(spec)
    if catalogue.version() is None:
        return []
    read = catalogue.read_version(columns=["source", "shard", "bytes", "status"])
    with sql.reading(read.version), sql.connect(read.rows) as database:
        found = database.sql(
            f"SELECT shard, min(source), count(*), sum(bytes) FROM {sql.TABLE} "  # noqa: S608 - our own name
            "WHERE shard IS NOT NULL AND status = 'written' GROUP BY 1 ORDER BY 1"
        ).fetchall()
    return [NamedPack(*row) for row in found]


def _may_be_dead(pack: NamedPack, sizes: dict[str, int]) -> bool:
    """Return whether it is worth counting its crops. Headers and facts are a part of its size too."""
    return pack.key in sizes and pack.live_bytes < (1 - DEAD_SHARE) * sizes[pack.key]


def _is_dead(pack: NamedPack, crops: int) -> bool:
    return crops - pack.live > DEAD_SHARE * crops


def _crops(spec: StoreSpec, pack: str) -> int:
    """Return how many crops a pack holds, dead ones too; without reading them."""
    index = index_key(pack)
    if index is not None:
        return len(json.loads(storage.read(spec, index))["samples"]) if storage.exists(spec, index) else 1
    import pyarrow.parquet as pq

    with storage.open_object(spec, pack) as file, pq.ParquetFile(file) as parquet:
        return int(parquet.metadata.num_rows)

"""Removes what is older than its retention: crops of profiles, manifests, quarantine files and reports.

A manifest that a work item still needs stays, however old it is.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from cropline.catalogue import Catalogue
from cropline.core import storage
from cropline.maintenance.ended_work import bring_expiring_back
from cropline.maintenance.result import CleanupResult
from cropline.packs import beside

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.config.settings import Settings
    from cropline.core.store_spec import StoreSpec
    from cropline.state import State

_DAY = re.compile(r"/(\d{4}-\d{2}-\d{2})/")


def expire_crops(spec: StoreSpec, state: State, settings: Settings, *, dry_run: bool) -> list[CleanupResult]:
    """Remove rows and crops of profiles with ``retention_days``, counted from the commit. Their work items stay done.

    Rows go first. After a kill in between, the objects are orphans, which a later maintenance removes.
    """
    results = []
    catalogue = Catalogue(spec)
    for name, profile in sorted(settings.profiles.items()):
        if profile.retention_days is None:
            continue
        before = datetime.now(UTC) - timedelta(days=profile.retention_days)
        count = size = 0
        if not dry_run and state.report(last_batches=0).moved_out:
            # Rare: these photos left the state table before the profile had a retention.
            for rows in catalogue.expired(name, before):
                bring_expiring_back(spec, state, _photos(rows))
        # A part at a time: a day may have millions of crops.
        for rows in catalogue.expired(name, before) if dry_run else catalogue.expire(name, before):
            count += len(rows)
            size += sum(number or 0 for number in rows["bytes"].to_pylist())
            if not dry_run:
                _delete_crops(spec, catalogue, rows.to_pylist())
        results.append(CleanupResult(f"crops of {name} older than {profile.retention_days} days", count, size))
    return results


def _photos(rows: pa.Table) -> set[tuple[str, str]]:
    return set(zip(rows["source"].to_pylist(), rows["image_id"].to_pylist(), strict=True))


def _delete_crops(spec: StoreSpec, catalogue: Catalogue, rows: list[dict[str, str | None]]) -> None:
    storage.delete(spec, [row["key"] for row in rows if row["key"] and not row["shard"]])
    # A pack may also hold crops that a newer batch reuses.
    packs = {row["shard"] for row in rows if row["shard"]}
    alone = [pack for pack in sorted(packs) if not len(catalogue.shard_rows(pack))]
    storage.delete(spec, [*alone, *(key for pack in alone for key in beside(pack))])


def apply_retention(spec: StoreSpec, state: State, settings: Settings, *, dry_run: bool) -> list[CleanupResult]:
    """Remove manifests, quarantine files and reports that are older than the settings keep them."""
    retention = settings.retention
    needed = state.needed_manifests()
    results = []
    for prefix, days in (
        ("manifests", retention.manifests_days),
        ("quarantine", retention.quarantine_days),
        ("reports", retention.reports_days),
    ):
        if days is None:
            continue
        before = datetime.now(UTC).date() - timedelta(days=days)
        old = [key for key in storage.list_keys(spec, f"{prefix}/") if _day(key) < before and key not in needed]
        if not dry_run:
            storage.delete(spec, old)
        results.append(CleanupResult(f"{prefix} older than {days} days", len(old)))
    return results


def _day(key: str) -> date:
    found = _DAY.search(key)
    return date.fromisoformat(found.group(1)) if found else date.max

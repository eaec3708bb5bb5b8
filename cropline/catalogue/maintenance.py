"""Maintenance of the Delta table: compaction, vacuum, checkpoint. It changes no current row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cropline.catalogue import compaction, delta
from cropline.catalogue.describing import describe
from cropline.catalogue.files import Snapshot
from cropline.core.errors import CatalogueError
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Vacuum also deletes files that no commit names yet: those of a running commit or a paused process.
SAFE = timedelta(days=1)


@dataclass(frozen=True)
class MaintenanceResult:
    """What maintenance did, or would do with dry_run. ``version`` is the table's newest version afterwards."""

    files_before: int
    files_after: int
    files_vacuumed: int
    checkpoint: bool
    version: int
    dry_run: bool
    duplicates: int = 0  # removed rows of duplicated work items, see duplicates.py


def check_vacuum(after: timedelta | None) -> None:
    """Raise CatalogueError when a vacuum so early could delete files that a running commit will name."""
    if after is not None and after < SAFE:
        raise CatalogueError(f"vacuum after {after} could delete files that running commits need: use at least {SAFE}")


def maintain(
    spec: StoreSpec, compact: bool, vacuum_after: timedelta | None, checkpoint: bool, dry_run: bool
) -> MaintenanceResult:
    """Run Catalogue.maintain, which checks ``vacuum_after`` first. Raise delta-rs' errors unchanged."""
    before = len(_table(spec).file_uris())
    if not dry_run:
        describe(_table(spec))
    if compact and not dry_run:
        compaction.compact(lambda: Snapshot(spec, _table(spec)))
    table, vacuumed = _table(spec), 0
    if vacuum_after is not None:
        hours = math.ceil(vacuum_after / timedelta(hours=1))
        # A full vacuum also finds files of failed commits, and files removed before the log begins.
        vacuumed = len(table.vacuum(hours, dry_run=dry_run, enforce_retention_duration=False, full=True))
    if checkpoint and not dry_run:
        table.create_checkpoint()
        table.cleanup_metadata()
    return MaintenanceResult(
        before, len(table.file_uris()), vacuumed, checkpoint and not dry_run, table.version(), dry_run
    )


def _table(spec: StoreSpec) -> DeltaTable:
    table = delta.open_table(spec)
    if table is None:
        raise CatalogueError(f"there is no catalogue yet at {spec.url}")
    return table

"""Maintenance of the Delta table: compaction, vacuum, checkpoint. Belongs here: nothing that changes a row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cropline.core.errors import CatalogueError

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Vacuum also deletes what no commit names yet: the files of a commit that is on its way, or of a paused process.
SAFE = timedelta(days=1)


@dataclass(frozen=True)
class MaintenanceResult:
    """What maintenance did, or with dry_run would do. ``version`` is the table's newest afterwards."""

    files_before: int
    files_after: int
    files_vacuumed: int
    checkpoint: bool
    version: int
    dry_run: bool
    doubles: int = 0  # rows of works that stood there twice, see duplicates.py


def check_vacuum(after: timedelta | None) -> None:
    """Raises CatalogueError when vacuuming so early could delete files that a running commit is about to name."""
    if after is not None and after < SAFE:
        raise CatalogueError(f"vacuum after {after} could delete what running commits need: at least {SAFE}")


def maintain(
    table: DeltaTable, compact: bool, vacuum_after: timedelta | None, checkpoint: bool, dry_run: bool
) -> MaintenanceResult:
    """See Catalogue.maintain, which checks ``vacuum_after`` first. Raises delta-rs' errors as they come."""
    before = len(table.file_uris())
    if compact and not dry_run:
        table.optimize.compact()
    vacuumed = 0
    if vacuum_after is not None:
        hours = math.ceil(vacuum_after / timedelta(hours=1))
        # In full: else it knows neither what a failed commit left nor what was removed longer ago than the log tells of.
        vacuumed = len(table.vacuum(hours, dry_run=dry_run, enforce_retention_duration=False, full=True))
    if checkpoint and not dry_run:
        table.create_checkpoint()
        table.cleanup_metadata()
    return MaintenanceResult(
        before, len(table.file_uris()), vacuumed, checkpoint and not dry_run, table.version(), dry_run
    )

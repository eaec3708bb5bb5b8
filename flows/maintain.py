"""The maintain deployment: nightly maintenance of the catalogue and the storage."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from cropline.catalogue import MaintenanceResult
from cropline.maintenance.result import CleanupResult
from flows.running import open_run, run_name
from tasks.forget import finish_erasures
from tasks.maintain import (
    delete_expired,
    delete_orphans,
    index_current_crops,
    maintain_catalogue,
    maintenance_failed,
    move_out,
    rewrite_dead_packs,
    show_maintenance,
)
from tasks.run_status import emit_on_failure


@flow(name="maintain", flow_run_name=run_name("maintain"), persist_result=False)
def maintain(
    keep_days: Annotated[
        int,
        Field(
            title="Keep days",
            ge=1,
            le=3650,
            description="versions of the catalogue that are younger than this stay readable",
        ),
    ] = 30,
    dry_run: Annotated[bool, Field(title="Dry run", description="count what would be removed; do nothing")] = False,
) -> tuple[MaintenanceResult | None, list[CleanupResult]]:
    """Keep the catalogue fast to read, and remove what is no longer needed.

    **What it does.** Removes crops older than their profile's `retention_days`, and manifests, quarantine and
    reports older than `CROPLINE_RETENTION__...` says (nothing unless set). Rewrites packs in which more than
    30 % of the crops are superseded, and writes beside each pack which of its crops are current. Merges small files of the
    catalogue, deletes files that no version of the last `keep_days` days needs, and shortens the table's log.
    Then removes orphans: crops that no version of the catalogue names, older than
    `CROPLINE_RETENTION__ORPHANS` and than any open batch. Finishes erasures (`cropline forget`) of photos
    that were in an open batch. Moves photos that ended more than `CROPLINE_RETENTION__STATE_DAYS` ago out of the
    state table, when the catalogue proves that it knows them. Polls may run beside it.

    **Start with a dry run** after a change of retention settings: its artifact counts what would be removed.

    **When it fails.** Nothing is lost: run it again, or wait for the next night. A concurrent commit is not a failure.

    **Look at** its artifact for the number of files before and after.
    """
    with open_run("maintain", all_sources=True) as run:
        if not dry_run:
            finish_erasures(run)
        with emit_on_failure(run, maintenance_failed(run)):
            aged = [*delete_expired(run, dry_run), *rewrite_dead_packs(run, dry_run)]
            index_current_crops(run, dry_run)
            done = maintain_catalogue(run, keep_days, dry_run)
            results = [*aged, *delete_orphans(run, dry_run), *move_out(run, dry_run)]
        show_maintenance(run, done, results, dry_run)
        return done, results

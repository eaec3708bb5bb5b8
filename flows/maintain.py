"""The maintain deployment: the nightly maintenance of the catalogue and of what lies beside it."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from cropline.catalogue import MaintenanceResult
from cropline.maintenance.result import CleanupResult
from flows.running import open_run, run_name
from tasks.forget import finish_erasures
from tasks.maintain import delete_expired, delete_orphans, maintain_catalogue, maintenance_failed, show_maintenance
from tasks.run_status import emit_on_failure


@flow(name="maintain", flow_run_name=run_name("maintain"), persist_result=False)
def maintain(
    keep_days: Annotated[
        int,
        Field(
            title="Keep days", ge=1, le=3650, description="versions of the catalogue younger than this stay readable"
        ),
    ] = 30,
    dry_run: Annotated[bool, Field(title="Dry run", description="count what would go; do nothing")] = False,
) -> tuple[MaintenanceResult | None, list[CleanupResult]]:
    """Keep the catalogue quick to read, and the store free of what nobody needs.

    **What it does.** Removes crops that are past their profile's `retention_days`, and manifests, quarantine and reports past
    theirs (`CROPLINE_RETENTION__...`; nothing unless set). Merges small files of the catalogue, deletes files that no
    version of the last `keep_days` days reads, shortens the table's log. Then removes orphans: crops older than
    `CROPLINE_RETENTION__ORPHANS` and than any open batch that no version of the catalogue names any more. Ends erasures
    (`cropline forget`) that met photos in work. Polls go on beside it.

    **Start with a dry run** after changing what is kept: its artifact counts what would go.

    **When it fails.** Nothing is lost; run it again, or wait for the next night. A commit that came between is no failure.

    **Look at** its artifact for the number of files before and after.
    """
    with open_run("maintain") as run:
        if not dry_run:
            finish_erasures(run)
        with emit_on_failure(run, maintenance_failed(run)):
            aged = delete_expired(run, dry_run)
            done = maintain_catalogue(run, keep_days, dry_run)
            results = [*aged, *delete_orphans(run, dry_run)]
        show_maintenance(run, done, results, dry_run)
        return done, results

"""The maintain deployment: the nightly upkeep of the catalogue."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from cropline.catalogue import Maintained
from flows.running import open_run, run_name
from tasks.ending import told_when_it_fails
from tasks.forget import finish_erasures
from tasks.maintain import failed_upkeep, maintain_catalogue, show_maintained


@flow(name="maintain", flow_run_name=run_name("maintain"), persist_result=False)
def maintain(
    keep_days: Annotated[
        int,
        Field(
            title="Keep days", ge=1, le=3650, description="versions of the catalogue younger than this stay readable"
        ),
    ] = 30,
    dry_run: Annotated[bool, Field(title="Dry run", description="count what would go; do nothing")] = False,
) -> Maintained | None:
    """Keep the catalogue quick to read.

    **What it does.** Merges small files, deletes files that no version of the last `keep_days` days reads, and shortens
    the table's log. No row changes, and polls go on beside it.

    **When it fails.** Nothing is lost; run it again, or wait for the next night. A commit that came between is no failure.

    **Look at** its artifact for the number of files before and after.
    """
    with open_run("maintain") as run:
        if not dry_run:
            finish_erasures(run)
        with told_when_it_fails(run, failed_upkeep(run)):
            done = maintain_catalogue(run, keep_days, dry_run)
        show_maintained(run, done)
        return done

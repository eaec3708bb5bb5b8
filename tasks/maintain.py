"""maintain: upkeep of the catalogue, told to lineage and shown in the Prefect UI.

Belongs here: the one call and what is said about it. Does not: the upkeep itself (cropline/catalogue/maintain.py).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect import task

from cropline.catalogue import Catalogue, Maintained
from cropline.report.maintain import maintained_verdict
from cropline.run import Run
from tasks.ending import Tell
from tasks.options import STEP
from tasks.show import show


@task(name="maintain", task_run_name="maintain the catalogue", **STEP)
def maintain_catalogue(run: Run, keep_days: int, dry_run: bool) -> Maintained | None:
    """Compact, vacuum and checkpoint; None when there is no catalogue yet."""
    catalogue = Catalogue(run.spec)
    if catalogue.version() is None:
        return None
    started_at = datetime.now(UTC)
    done = catalogue.maintain(vacuum_after=timedelta(days=keep_days), dry_run=dry_run)
    if not dry_run:
        changed = done.files_after != done.files_before
        run.tell(
            run.story.maintained(
                datetime.now(UTC), started_at=started_at, catalogue_version=done.version, changed=changed
            )
        )
    return done


def failed_upkeep(run: Run) -> Tell:
    """What is told of an upkeep that went wrong."""
    return lambda at, began, kind, why: run.story.maintained(
        at, started_at=began, catalogue_version=None, changed=False, error=why, kind=kind
    )


def show_maintained(run: Run, done: Maintained | None) -> None:
    """What upkeep did, as an artifact."""
    told = maintained_verdict(done)
    show("markdown", "maintain-summary", f"## {run.context.run_name}\n\n**{told}**\n", told)

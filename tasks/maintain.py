"""maintain: upkeep of the catalogue and of what lies beside it, told to lineage and shown in the Prefect UI.

Belongs here: the calls and what is said about them. Does not: the upkeep itself (cropline/catalogue/maintain.py,
cropline/upkeep).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prefect import task

from cropline.catalogue import Catalogue, Maintained
from cropline.report.maintain import maintained_table, maintained_verdict
from cropline.run import Run
from cropline.upkeep.taken import Taken
from tasks.ending import Tell
from tasks.harmless import harmless
from tasks.options import STEP
from tasks.show import show
from tasks.strangers import look_for_strangers


@task(name="maintain", task_run_name="maintain the catalogue", **STEP)
def maintain_catalogue(run: Run, keep_days: int, dry_run: bool) -> Maintained | None:
    """Mend works that stand there twice, compact, vacuum and checkpoint; None when there is no catalogue yet."""
    catalogue = Catalogue(run.spec)
    if catalogue.version() is None:
        return None
    started_at = datetime.now(UTC)
    look_for_strangers(run, whatever=True)  # before the log that tells of them is shortened
    mended = _mend_doubles(run, catalogue, dry_run)
    done = catalogue.maintain(vacuum_after=timedelta(days=keep_days), dry_run=dry_run)
    if not dry_run:
        changed = done.files_after != done.files_before
        run.tell(
            run.story.maintained(
                datetime.now(UTC), started_at=started_at, catalogue_version=done.version, changed=changed
            )
        )
    return replace(done, doubles=mended)


def _mend_doubles(run: Run, catalogue: Catalogue, dry_run: bool) -> int:
    """Rows that went because their works stood in the table twice. It reads the table, so only when others have written there."""
    if run.state.bound().doubles_checked:
        return 0
    mended = catalogue.mend_doubles(dry_run=dry_run)
    if not dry_run:
        run.state.doubles_checked()
    return mended


def failed_upkeep(run: Run) -> Tell:
    """What is told of an upkeep that went wrong."""
    return lambda at, began, kind, why: run.story.maintained(
        at, started_at=began, catalogue_version=None, changed=False, error=why, kind=kind
    )


@task(name="age out", task_run_name="age out", **STEP)
def age(run: Run, dry_run: bool) -> list[Taken]:
    """Crops, manifests, quarantine and reports that are past their days."""
    from cropline.upkeep import age_out, expire_crops

    aged = age_out(run.spec, run.state, run.settings, dry_run=dry_run)
    return [*expire_crops(run.spec, run.settings, dry_run=dry_run), *aged]


@task(name="sweep", task_run_name="sweep orphans", **STEP)
def sweep_orphans(run: Run, dry_run: bool) -> list[Taken]:
    """Crops and packs that no version of the catalogue names."""
    from cropline.upkeep import sweep

    settings = run.settings
    return sweep(run.spec, run.state, safe=settings.retention.orphans, dry_run=dry_run)


def show_maintained(run: Run, done: Maintained | None, taken: Sequence[Taken], dry_run: bool) -> None:
    """What upkeep did, as an artifact."""
    told = maintained_verdict(done)
    table = maintained_table(taken, dry_run)
    with harmless("the summary"):
        show("markdown", "maintain-summary", f"## {run.context.run_name}\n\n**{told}**\n\n{table}\n", told)

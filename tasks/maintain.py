"""maintain: maintains the catalogue and the store, emits lineage, and shows the result in the Prefect UI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prefect import get_run_logger, task

from cropline.catalogue import Catalogue, MaintenanceResult
from cropline.maintenance.report import maintenance_table, maintenance_verdict
from cropline.maintenance.result import CleanupResult
from cropline.pipeline.run import Run
from tasks.harmless import harmless
from tasks.options import STEP
from tasks.run_status import Emit
from tasks.show import show
from tasks.unknown_commits import find_unknown_commits


@task(name="maintain", task_run_name="maintain the catalogue", **STEP)
def maintain_catalogue(run: Run, keep_days: int, dry_run: bool) -> MaintenanceResult | None:
    """Remove duplicate rows, compact, vacuum and checkpoint. Return None when there is no catalogue yet."""
    catalogue = Catalogue(run.spec)
    if catalogue.version() is None:
        return None
    started_at = datetime.now(UTC)
    find_unknown_commits(run, whatever=True)  # before the log that names them is shortened
    mended = _remove_duplicates(run, catalogue, dry_run)
    done = catalogue.maintain(vacuum_after=timedelta(days=keep_days), dry_run=dry_run)
    if not dry_run:
        changed = done.files_after != done.files_before
        run.emit(
            run.event_builder.maintained(
                datetime.now(UTC), started_at=started_at, catalogue_version=done.version, changed=changed
            )
        )
    return replace(done, duplicates=mended)


def _remove_duplicates(run: Run, catalogue: Catalogue, dry_run: bool) -> int:
    """Remove duplicate rows of work items; return how many. It reads the table only when others have written to it."""
    if run.state.bound().duplicates_checked:
        return 0
    mended = catalogue.remove_duplicates(dry_run=dry_run)
    if not dry_run:
        run.state.duplicates_checked()
    return mended


def maintenance_failed(run: Run) -> Emit:
    """Return the events of a maintenance that failed."""
    return lambda at, began, kind, why: run.event_builder.maintained(
        at, started_at=began, catalogue_version=None, changed=False, error=why, kind=kind
    )


@task(name="delete expired", task_run_name="delete expired", **STEP)
def delete_expired(run: Run, dry_run: bool) -> list[CleanupResult]:
    """Remove crops, manifests, quarantine and reports whose retention has passed."""
    from cropline.maintenance import apply_retention, expire_crops

    deleted = apply_retention(run.spec, run.state, run.settings, dry_run=dry_run)
    return [*expire_crops(run.spec, run.state, run.settings, dry_run=dry_run), *deleted]


@task(name="move out", task_run_name="move ended photos out of the state table", **STEP)
def move_out(run: Run, dry_run: bool) -> list[CleanupResult]:
    """Move photos that ended long ago out of the state table. The catalogue knows them."""
    from cropline.maintenance import move_out_ended

    return move_out_ended(run.spec, run.state, run.settings, dry_run=dry_run)


@task(name="rewrite packs", task_run_name="rewrite packs", **STEP)
def rewrite_dead_packs(run: Run, dry_run: bool) -> list[CleanupResult]:
    """Rewrite packs in which many crops are superseded. An erasure that runs takes precedence."""
    from cropline.maintenance import rewrite_packs

    return [rewrite_packs(run.spec, run.state, dry_run=dry_run)]


@task(name="index packs", task_run_name="index packs", **STEP)
def index_current_crops(run: Run, dry_run: bool) -> None:
    """Write beside each pack which of its crops are current."""
    from cropline.maintenance import index_packs

    if not dry_run and (changed := index_packs(run.spec, run.state)):
        get_run_logger().info("%d indexes of packs were brought up to date", changed)


@task(name="delete orphans", task_run_name="delete orphans", **STEP)
def delete_orphans(run: Run, dry_run: bool) -> list[CleanupResult]:
    """Remove crops and packs that no version of the catalogue names."""
    from cropline.maintenance import remove_orphans

    settings = run.settings
    return remove_orphans(run.spec, run.state, safe=settings.retention.orphans, dry_run=dry_run)


def show_maintenance(run: Run, done: MaintenanceResult | None, results: Sequence[CleanupResult], dry_run: bool) -> None:
    """Show what maintenance did, as an artifact."""
    verdict = maintenance_verdict(done)
    table = maintenance_table(results, dry_run)
    with harmless("the summary"):
        show(
            "markdown",
            run.settings.named("maintain-summary"),
            f"## {run.context.run_name}\n\n**{verdict}**\n\n{table}\n",
            verdict,
        )

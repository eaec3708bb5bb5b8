"""claim: lease a batch of work. A stale batch of a run that died is resumed first, under its id and a higher attempt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prefect import get_run_logger, task

from cropline.core.errors import CroplineError, StaleLease
from cropline.core.scrub import one_line
from cropline.lineage import EventKind
from cropline.pipeline.run import Run
from tasks.options import STEP
from tasks.run_status import run_status

if TYPE_CHECKING:
    from cropline.state import Batch


def has_work(run: Run) -> bool:
    """Whether anything can be claimed now. Not a task: an idle poll asks once and must not pay for a task run."""
    return run.state.has_work(run.settings.api.source)


def claim(run: Run) -> Batch | None:
    """Lease the next batch to this run; None when another run took what there was."""
    return run.state.claim(
        limit=run.settings.batch.images, owner=run.context.flow_run_id, source=run.settings.api.source
    )


claim_task = task(name="claim", task_run_name="claim up to {run.settings.batch.images} images", **STEP)(claim)


@contextmanager
def freed_on_failure(run: Run, batch: Batch) -> Iterator[datetime]:
    """Whatever ends the work on a batch before its commit, a cancel too, lets go of it: the next run resumes it at once.

    Gives the moment at which this attempt began.
    """
    started_at = datetime.now(UTC)
    try:
        yield started_at
    except StaleLease:
        raise  # it is no longer ours to free
    except BaseException as error:
        _let_go(run, batch, started_at, run_status(error), one_line(f"{type(error).__name__}: {error}"))
        raise


def _let_go(run: Run, batch: Batch, started_at: datetime, kind: EventKind, why: str) -> None:
    events = run.event_builder.crop_failed(
        datetime.now(UTC), started_at=started_at, batch_id=batch.batch_id, attempt=batch.attempt, kind=kind, error=why
    )
    try:
        run.state.release(batch, why)
        run.emit(events)
    except CroplineError as error:
        # The failure that is on its way up is the one to show; the lease runs out by itself.
        get_run_logger().warning("batch %s could not be freed: %s", batch.batch_id, error)

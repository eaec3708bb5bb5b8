"""claim: leases a batch of work items. A batch of a run that died is resumed first: same id, higher attempt."""

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
    return run.state.has_work(run.settings.source_names)


def claim(run: Run) -> Batch | None:
    """Lease the next batch to this run. Return None when other runs have everything."""
    return run.state.claim(
        limit=run.settings.batch.images, owner=run.context.flow_run_id, source=run.settings.source_names
    )


claim_task = task(name="claim", task_run_name="claim up to {run.settings.batch.images} images", **STEP)(claim)


@contextmanager
def freed_on_failure(run: Run, batch: Batch) -> Iterator[datetime]:
    """Release a batch that ends before its commit, by an error or by a cancel: the next run resumes it at once.

    Yields the time at which this attempt began.
    """
    started_at = datetime.now(UTC)
    try:
        yield started_at
    except StaleLease:
        raise  # another run has the batch, so this one must not release it
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
        # Show the original failure. The lease expires by itself.
        get_run_logger().warning("batch %s could not be released: %s", batch.batch_id, error)

"""process_batch: the one path from a claimed batch to its commit, for every flow.

A batch that an earlier run had committed to the catalogue is not cut again. A batch that fails before its commit is
released, and its failure is emitted to lineage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from cropline.pipeline import outcomes
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.heartbeat import Heartbeat
from cropline.pipeline.run import Run
from tasks.check import check, check_task
from tasks.claim import freed_on_failure
from tasks.commit import CommittedBatch, commit, commit_task, committed_crops
from tasks.crop import Cut, crop, crop_task
from tasks.forget import finish_erasures

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.state import Batch


class _Crop(Protocol):
    def __call__(self, run: Run, batch: Batch, check: Callable[[], None]) -> Cut: ...


class _Commit(Protocol):
    def __call__(
        self, run: Run, batch: Batch, crops: pa.Table, started_at: datetime, engine: str | None
    ) -> CommittedBatch: ...


class _Check(Protocol):
    def __call__(self, run: Run, batch: Batch, crops: pa.Table, counts: pa.Table | None) -> list[tuple[str, str]]: ...


@dataclass(frozen=True)
class BatchSteps:
    """The steps of a batch: as Prefect tasks, which the UI shows, or as plain functions, which add no overhead."""

    crop: _Crop
    commit: _Commit
    check: _Check


SHOWN = BatchSteps(crop_task, commit_task, check_task)
PLAIN = BatchSteps(crop, commit, check)


@dataclass(frozen=True)
class BatchResult:
    """The result of a batch. ``cut`` is None when an earlier run had cut it."""

    batch_id: str
    counts: Funnel
    cut: Cut | None
    catalogue_version: int


def process_batch(run: Run, batch: Batch, steps: BatchSteps = SHOWN) -> BatchResult:
    """Cut, commit and check a batch of this run, and finish erasures that waited for it. Several threads may call it.

    Raise StaleLease soon after another run has taken over the batch, RunStopped after ``run.stop()``.
    """
    known = {"batch": batch.batch_id, "attempt": batch.attempt, "source": batch.source, "images": batch.images.num_rows}
    with run.spans.span("batch", **known) as span:
        result = _process(run, batch, steps)
        counts = result.counts
        span.note(
            boxes=counts.boxes, written=counts.written, failed=counts.failed, skipped=counts.skipped,
            catalogue_version=result.catalogue_version,
        )  # fmt: skip
    return result


def _process(run: Run, batch: Batch, steps: BatchSteps) -> BatchResult:
    run.add(Funnel(batches=1, resumed=int(batch.resumed)))
    lease_s = run.settings.state.lease_s
    with (
        freed_on_failure(run, batch) as started_at,
        Heartbeat(lambda: run.state.renew(batch), lease_s / 3, f"batch {batch.batch_id}") as lease,
    ):

        def go_on() -> None:
            lease.check()
            run.check_stopped()

        held = committed_crops(run, batch) if batch.resumed else None
        cut = None
        if held is None:
            with run.spans.span("crop") as span:
                cut = steps.crop(run, batch, go_on)
                span.note(
                    engine=cut.engines[0].kind if cut.engines else None, parts=sum(e.partitions for e in cut.engines)
                )
        with run.committing:
            go_on()
            crops = held if cut is None else cut.crops
            with run.spans.span("commit"):
                committed = steps.commit(
                    run, batch, crops, started_at, cut.engines[0].kind if cut and cut.engines else None
                )
    counts = outcomes.funnel_of(batch, outcomes.became(committed.crops), committed.counts)
    counts.stayed = outcomes.stayed(committed.crops)
    counts.catalogue_version = committed.catalogue_version
    if cut is not None:
        counts.engines, counts.seconds = [*cut.engines], cut.seconds
    run.add(counts)
    with run.spans.span("check"):
        warnings = steps.check(run, batch, committed.crops, cut.counts if cut else None)
    run.add(Funnel(warnings=warnings))
    finish_erasures(run)
    return BatchResult(batch.batch_id, counts, cut, committed.catalogue_version)

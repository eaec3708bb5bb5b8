"""The process deployment: crops the backlog without polling. Poll uses its loop too."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from cropline.pipeline.funnel import Funnel
from cropline.pipeline.run import Run
from flows.running import Source, open_run, run_name
from tasks.claim import claim_task, has_work
from tasks.process_batch import process_batch

MaxBatches = Annotated[
    int | None,
    Field(title="Batches", ge=1, description="process at most this many batches; empty: CROPLINE_BATCH__MAX_BATCHES"),
]


@flow(name="process", flow_run_name=run_name("process"), persist_result=False)
def process(max_batches: MaxBatches = None, source: Source = None) -> Funnel:
    """Crop the backlog without polling.

    **What it does.** Claims batches of pending images, and of failed ones whose retry is due. It cuts every
    box and commits the crops to the catalogue and the state, one batch at a time, until the backlog is empty
    or `max_batches` is reached. With several sources and none named, they take turns: each batch is of the source
    whose last batch is the oldest, so a burst of one does not hold up another.

    **When it fails.** Batches that were committed before the failure stay committed. The open batch is
    released, and the next run resumes it under the same id, so no crop is recorded twice. Run it again, or
    wait for the next poll.

    **Look at** the artifact of this run for counts and reasons, `cropline status` for the backlog, and docs/failures.md
    for what to do about a reason code.
    """
    with open_run("process", source, all_sources=True) as run:
        drain(run, max_batches)
        return run.funnel


def drain(run: Run, max_batches: int | None) -> None:
    """Claim, crop and commit one batch at a time. ``max_batches`` None: as many as the settings allow."""
    for _ in range(run.settings.batch.max_batches if max_batches is None else max_batches):
        if not has_work(run):
            return
        batch = claim_task(run)
        if batch is None:  # another run was faster
            return
        process_batch(run.of(batch.source), batch)

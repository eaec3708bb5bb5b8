"""The process deployment: work off the backlog without polling. Also how poll drains."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from cropline.pipeline.funnel import Funnel
from cropline.pipeline.run import Run
from flows.running import open_run, run_name
from tasks.claim import claim_task, has_work
from tasks.process_batch import process_batch

MaxBatches = Annotated[
    int | None,
    Field(title="Batches", ge=1, description="batches that this run takes at most; empty: CROPLINE_BATCH__MAX_BATCHES"),
]


@flow(name="process", flow_run_name=run_name("process"), persist_result=False)
def process(max_batches: MaxBatches = None) -> Funnel:
    """Crop what waits in the state table.

    **What it does.** Claims batches of pending images, and of failed ones whose retry is due, cuts every box, commits the
    crops to the catalogue and the state, one batch after the other, until nothing waits or `max_batches` is reached.

    **When it fails.** Batches committed before the failure stand. The batch in hand is freed and the next run takes it up
    under the same id: nothing is cropped into the catalogue twice. Run it again, or wait for the next poll.

    **Look at** the artifact of this run for counts and reasons, `cropline status` for the backlog, docs/failures.md for
    what a reason code asks of you.
    """
    with open_run("process") as run:
        drain(run, max_batches)
        return run.funnel


def drain(run: Run, max_batches: int | None) -> None:
    """Claim, crop and commit, a batch at a time."""
    for _ in range(max_batches or run.settings.batch.max_batches):
        if not has_work(run):
            return
        batch = claim_task(run)
        if batch is None:  # another run was faster
            return
        process_batch(run, batch)

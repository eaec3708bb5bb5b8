"""The poll deployment: what was announced since the last time becomes crops."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from cropline.pipeline.funnel import Funnel
from flows.process import MaxBatches, drain
from flows.running import drained_on_failure, open_run, run_name
from tasks.intake import take_in

LookBack = Annotated[
    int | None,
    Field(
        title="Look back, seconds",
        ge=0,
        description="how far before the cursor it looks again for late arrivals; empty: CROPLINE_API__OVERLAP",
    ),
]


@flow(name="poll", flow_run_name=run_name("poll"), persist_result=False)
def poll(max_batches: MaxBatches = None, look_back_s: LookBack = None) -> Funnel:
    """Poll the image API, then crop what is new.

    **What it does.** Reads the API since the saved cursor, lands the items as a manifest, validates it (bad rows go to
    quarantine), registers new and changed images, then claims, crops and commits batches until nothing waits or
    `max_batches` is reached. Without news and backlog it ends after one look.

    **When it fails.**
    - `api_unavailable`: the API did not answer; the next poll reads the same again. Nothing is lost, and the backlog was
      worked off all the same.
    - `api_refused`: look at the message: the token, the path, or pages that loop.
    - `manifest_rejected`: too many bad rows; nothing was registered and the cursor stays. Open the Data Docs, mend the
      source or the rules (`CROPLINE_EXPECTATIONS__...`), and poll again.
    - `stale_lease`: this run was so slow that another took its batch over; that one finishes it.
    - Anything else: run it again. A batch in hand is resumed under the same id, never doubled.

    **Look at** the artifact of this run for counts and reasons, `cropline status` for the backlog, docs/failures.md for
    what a reason code asks of you.
    """
    with open_run("poll") as run:
        with drained_on_failure(lambda: drain(run, max_batches)):
            take_in(run, None if look_back_s is None else timedelta(seconds=look_back_s))
        drain(run, max_batches)
        return run.funnel

"""The backfill deployment: photos of a window become crops at last, again, or after a failure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from cropline.backfill.estimate import Estimate
from cropline.backfill.request import From, Limits, Mode, Order, Photos, backfill_id
from cropline.pipeline.funnel import Funnel
from flows.batch_executor import execute_plan, show_plan
from flows.running import open_run
from tasks.plan import Asked, plan


def _name() -> str:
    asked = runtime.flow_run.parameters
    photos: Photos = asked["photos"]
    since = f"{photos.since:%Y-%m-%d}" if photos.since else "the beginning"
    days = f"{since} to {photos.until:%Y-%m-%d}" if photos.until else f"{since} to now"
    kind = "dry run" if asked["dry_run"] else asked["mode"]
    return f"backfill {kind} {days}, asked {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


@flow(name="backfill", flow_run_name=_name, persist_result=False)
def backfill(
    photos: Annotated[Photos, Field(title="Which photos")],
    announced: Annotated[
        From,
        Field(
            title="Announced by", description="api: ask the image API again; manifests: read what earlier polls landed"
        ),
    ] = "api",
    mode: Annotated[
        Mode,
        Field(
            title="What to do",
            description="missing: never registered, or changed (another version, other boxes, another recipe, other metadata); "
            "failed: failed and dead ones; all: everything, also what is done",
        ),
    ] = "missing",
    order: Annotated[Order, Field(title="Order", description="which photos come first, by capture time")] = "newest",
    dry_run: Annotated[
        bool, Field(title="Dry run", description="say what would be done, why, and what it takes; do nothing")
    ] = False,
    restart: Annotated[
        bool,
        Field(
            title="Restart", description="with all: do again what an unfinished run of the same window has done already"
        ),
    ] = False,
    limits: Annotated[Limits, Field(title="Limits")] = Limits(),  # noqa: B008 - frozen
) -> Funnel | Estimate:
    """Crop photos of a window that polls did not, or did otherwise.

    **What it does.** Reads what is announced for the window (from the API, or from landed manifests), judges it by
    today's rules, compares it with the state table, and works off what is to be done: batch by batch, in the asked
    order, until it is done or a limit stops it. Batches that a dead run left come first. The poll's cursor stays.

    **Start with a dry run.** Its artifact says by day what would be done and why, and what it takes.

    **Stop and go on.** Cancel it whenever you like: the batches in hand are freed. Run it again with the same window and
    mode and it goes on, with the limits, order and settings of the new run; what is done is not done again.

    **Beside polls.** It claims only its own photos, a batch at a time, so new photos never wait behind it in the queue,
    and it asks for the same rate limit as polls do (`cropline-image-api`).

    **When it fails.** As `poll` and `process` do; nothing is lost, run it again. `manifest_rejected`: too much of what is
    announced is bad; nothing was done.

    **Look at** the progress artifacts while it runs, the summary afterwards, `cropline status`.
    """
    with open_run("backfill") as run:
        id_, selection = backfill_id(run.settings.api.source, photos, announced, mode)
        started = (
            run.state.unfinished_backfill(id_) if dry_run else run.state.begin_backfill(id_, selection, restart=restart)
        )
        since = started.at if started is not None and not restart else None
        planned = plan(run, Asked(photos, announced, mode, order, limits), since)
        if dry_run:
            return show_plan(run, planned, limits)
        if execute_plan(run, planned, limits) is None and planned.complete:
            run.state.end_backfill(id_)
        return run.funnel

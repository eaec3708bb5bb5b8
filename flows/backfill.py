"""The backfill deployment: crops the photos of a time window."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from cropline.backfill.estimate import Estimate
from cropline.backfill.request import From, Limits, Mode, Order, Photos, backfill_id
from cropline.pipeline.funnel import Funnel
from flows.batch_executor import execute_plan, show_plan
from flows.running import Source, open_run
from tasks.plan import Asked, plan


def _name() -> str:
    asked = runtime.flow_run.parameters
    photos: Photos = asked["photos"]
    since = f"{photos.since:%Y-%m-%d}" if photos.since else "the beginning"
    days = f"{since} to {photos.until:%Y-%m-%d}" if photos.until else f"{since} to now"
    kind = "dry run" if asked["dry_run"] else asked["mode"]
    of = f" of {asked['source']}" if asked.get("source") else ""
    return f"backfill {kind} {days}{of}, requested {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


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
            description="missing: not registered yet, or changed (version, boxes, recipe or metadata); "
            "failed: failed and dead ones; all: everything, including what is done",
        ),
    ] = "missing",
    order: Annotated[Order, Field(title="Order", description="which photos come first, by capture time")] = "newest",
    dry_run: Annotated[
        bool, Field(title="Dry run", description="show what would be done, why, and what it would cost; do nothing")
    ] = False,
    restart: Annotated[
        bool,
        Field(
            title="Restart",
            description="with all: start again instead of resuming an unfinished run of the same window",
        ),
    ] = False,
    limits: Annotated[Limits, Field(title="Limits")] = Limits(),  # noqa: B008 - frozen
    source: Source = None,
) -> Funnel | Estimate:
    """Crop the photos of a time window that polls missed or cropped differently.

    **What it does.** Reads the images of the window from the API or from landed manifests, validates them by
    the current rules, and compares them with the state table. Then it processes the work items batch by
    batch, in the order that you choose, until all are done or a limit is reached. Batches of a dead run come
    first. The poll's cursor does not move.

    **Start with a dry run.** Its artifact shows by day what would be done, why, and what it would cost.

    **Stop and resume.** Cancel it at any time: it releases its open batches. Run it again with the same
    window and mode, and it resumes with the limits, order and settings of the new run. Work that is done is
    not repeated.

    **Beside polls.** It claims only its own photos, one batch at a time, so new photos never wait behind it. It shares
    the rate limit of its image API with polls.

    **When it fails.** See `poll` and `process`. Nothing is lost: run it again. `manifest_rejected`: too many
    rows are bad, and nothing was done.

    **Look at** the progress artifacts while it runs, the summary afterwards, and `cropline status`.
    """
    with open_run("backfill", source) as run:
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

"""The watch deployment: one process that looks every second, for crops seconds after the photo."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from cropline.errors import CroplineError
from cropline.funnel import Funnel
from cropline.run import Run, watcher
from cropline.watched import Watched
from flows.running import open_run, run_name
from tasks.backlog import note_backlog
from tasks.check import check
from tasks.claim import claim, freed_on_failure, has_work
from tasks.commit import commit, committed_crops
from tasks.crop import crop
from tasks.land import land
from tasks.pace import is_limited
from tasks.poll import anything_new
from tasks.poll import poll as poll_images
from tasks.publish import publish
from tasks.register import register
from tasks.report import report
from tasks.validate import validate

# Between whole looks a poll goes back so far only: late arrivals are found by the whole ones.
_SHORT_LOOK = timedelta(seconds=5)
_TELL_EVERY_S = 60
_LONGEST_PAUSE_S = 60


@flow(name="watch", flow_run_name=run_name("watch"), persist_result=False)
def watch(
    every_s: Annotated[
        float, Field(title="Look every, seconds", ge=0.1, le=60, description="how often the API is asked for news")
    ] = 1.0,
    minutes: Annotated[
        float, Field(title="Minutes", gt=0, le=1_440, description="how long; a schedule then starts the next one")
    ] = 60,
) -> Watched:
    """Look for new photos every second and crop them at once.

    **What it does.** Keeps one process, so that nothing is imported twice, and asks the API for news since the cursor
    with one call a look. When there are some, or work waits, it takes the same steps as a poll, but not as task runs of
    Prefect's: those would take longer than the crops. Once a minute it looks back as far as a poll does, for late
    arrivals, publishes its lineage and shows what it did.

    **Beside poll.** Both may run: what one has taken the other leaves. Pause the schedule of `poll`, or keep it as a
    safety net.

    **When it fails.** A look that fails is logged and tried again after a pause that grows to a minute. Start it again
    whenever you like: a batch in hand is resumed.

    **Look at** its summary artifacts, one a minute, and `backlog`.
    """
    watched = Watched()
    with open_run("watch") as run:
        limited = is_limited()
        until, told, pause = time.monotonic() + minutes * 60, 0.0, 0.0
        while (began := time.monotonic()) < until:
            whole = began - told >= _TELL_EVERY_S
            try:
                if whole:
                    told = began
                    _tell(run, watched)
                if whole or anything_new(run, limited):
                    watched.add(_take(run, None if whole else _SHORT_LOOK))
                else:
                    watched.idle += 1
                pause = 0.0
            except CroplineError as error:
                watched.failed += 1
                pause = min(max(2 * pause, every_s), _LONGEST_PAUSE_S)
                get_run_logger().warning("%s: %s; the next look is in %.0f s", error.code, error, pause)
            time.sleep(max(0.0, every_s + pause - (time.monotonic() - began)))
        _tell(run, watched)
    return watched


def _take(run: Run, look_back: timedelta | None) -> Funnel:
    """One poll and the work that waits, counted apart. The steps run as plain functions."""
    with Run(run.settings, run.context, watcher()) as look:
        polled = poll_images.fn(look, look_back)
        if polled.fresh:
            validated = validate.fn(look, land.fn(look, polled))
            register.fn(look, polled, validated)
        while has_work(look):
            batch = claim.fn(look)
            if batch is None:
                break
            with freed_on_failure(look, batch) as started_at:
                held = committed_crops(look, batch) if batch.resumed else None
                crops = commit.fn(look, batch, crop.fn(look, batch) if held is None else held, started_at)
            check.fn(look, batch, crops)
        look.funnel.reconcile()
        return look.funnel


def _tell(run: Run, watched: Watched) -> None:
    """What was done since the last time, to the lineage collector and to people."""
    publish.fn(run)
    run.funnel = watched.minute
    if not run.funnel.nothing_new:
        report.fn(run)
    note_backlog(run)
    watched.next_minute()
    run.funnel = watched.minute

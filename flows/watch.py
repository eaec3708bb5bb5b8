"""The watch deployment: one process that looks every second, for crops seconds after the photo."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

import httpx
from prefect import flow, get_run_logger
from pydantic import Field

from cropline.core.errors import CroplineError, ManifestRejected
from cropline.core.scrub import one_line
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.run import Run
from flows.running import drained_on_failure, open_run, run_name
from tasks import intake, process_batch
from tasks.backlog import emit, note_backlog
from tasks.claim import claim, has_work
from tasks.poll import anything_new
from tasks.publish import publish
from tasks.rate_limit import is_rate_limited
from tasks.report import report

# Between whole poll a poll goes back so far only: late arrivals are found by the whole ones.
_SHORT_LOOK_BACK = timedelta(seconds=5)
_WHOLE_EVERY_S = 60
_LONGEST_PAUSE_S = 60
_STUCK_AFTER_S = 300


@dataclass
class WatchResult:
    """What a watch came to: polls that found nothing, polls that found something, polls that failed, and their work."""

    idle: int = 0
    found: int = 0
    failed: int = 0
    funnel: Funnel = field(default_factory=Funnel)


@flow(name="watch", flow_run_name=run_name("watch"), persist_result=False)
def watch(
    every_s: Annotated[
        float, Field(title="Poll every, seconds", ge=0.1, le=60, description="how often the API is asked for news")
    ] = 1.0,
    minutes: Annotated[
        float, Field(title="Minutes", gt=0, le=1_440, description="how long; a schedule then starts the next one")
    ] = 60,
) -> WatchResult:
    """Look for new photos every second and crop them at once.

    **What it does.** Keeps one process, so that nothing is imported twice, and asks the API for news since the cursor
    with one call a poll. When there are some, or work waits, it takes the same steps as a poll, a batch a poll, but not
    as task runs of Prefect's: those would take longer than the crops. Once a minute it looks back as far as a poll does,
    for late arrivals, publishes its lineage and brings its artifacts up to date.

    **Beside poll.** Both may run: what one has taken the other leaves. Pause the schedule of `poll`, or keep it as a
    safety net.

    **When it fails.** A poll that fails is logged and tried again after a pause that grows to a minute; what was
    registered before is cropped meanwhile, if it is the API that fails. When looks fail for five minutes it emits
    `cropline.watch.stuck`, and goes on. It fails at its end if its last poll did. Start it again whenever you like: a
    batch in hand is resumed.

    **Look at** its summary and its log while it runs, and at `backlog`.
    """
    with open_run("watch") as run:
        loop = _PollLoop(run, every_s)
        until = time.monotonic() + minutes * 60
        try:
            while time.monotonic() < until:
                loop.poll_once()
                loop.wait()
        except KeyboardInterrupt:
            get_run_logger().info("asked to end; a batch in hand is left to the next run")
        else:
            loop.end()
        return loop.result


class _PollLoop:
    """Looks again and again; holds what the next poll needs to know of those before."""

    def __init__(self, run: Run, every_s: float) -> None:
        self._run, self._every_s = run, every_s
        self._limited = is_rate_limited()
        self._whole_at = self._began = float("-inf")
        self._pause = 0.0
        self._failing_since: float | None = None
        self._stuck_reported = False
        self._error: Exception | None = None
        self.result = WatchResult(funnel=run.funnel)

    def poll_once(self) -> None:
        """One look; its failure is logged and kept, whatever it is: the next poll may do better."""
        self._began = time.monotonic()
        try:
            found = self._poll()
        except Exception as error:  # noqa: BLE001 - raised at the end, if the last poll failed
            self._failed(error)
        else:
            self.result.found += found
            self.result.idle += not found
            self._error, self._failing_since, self._stuck_reported, self._pause = None, None, False, 0.0

    def wait(self) -> None:
        """Until the next poll is due."""
        time.sleep(max(0.0, self._every_s + self._pause - (time.monotonic() - self._began)))

    def end(self) -> None:
        """Raise the failure of the last poll, if it failed."""
        if self._error is not None:
            raise self._error

    def _poll(self) -> bool:
        whole = self._began - self._whole_at >= _WHOLE_EVERY_S
        if whole:
            self._whole_at = self._began
        with drained_on_failure(lambda: self._crop_and_publish(whole)):
            found = (whole or anything_new(self._run, self._limited)) and _take_in(
                self._run, None if whole else _SHORT_LOOK_BACK
            )
        return self._crop_and_publish(whole) or found

    def _crop_and_publish(self, whole: bool) -> bool:
        """After the crops: no photo waits for a report."""
        found = _crop_a_batch(self._run)
        if whole:
            _publish(self._run)
        return found

    def _failed(self, error: Exception) -> None:
        self.result.failed += 1
        self._error = error
        self._failing_since = self._failing_since or self._began
        self._pause = min(max(2 * self._pause, self._every_s), _LONGEST_PAUSE_S)
        message = one_line(f"{_kind(error)}: {error}")
        unknown = not isinstance(error, CroplineError | httpx.HTTPError)
        get_run_logger().warning(
            "%s; the next poll is in %.0f s", message, self._every_s + self._pause, exc_info=unknown
        )
        if isinstance(error, ManifestRejected) and self._pause <= self._every_s:
            emit("manifest.rejected", self._run, message)
        if not self._stuck_reported and self._began - self._failing_since >= _STUCK_AFTER_S:
            self._stuck_reported = True
            emit("watch.stuck", self._run, message)


def _kind(error: Exception) -> str:
    """How a failure is named: our code, Prefect's server (httpx), or the type of one that nobody foresaw."""
    if isinstance(error, httpx.HTTPError):
        return "prefect"
    return error.code if isinstance(error, CroplineError) else type(error).__name__


def _take_in(run: Run, look_back: timedelta | None) -> bool:
    """One poll; whether it brought anything."""
    return intake.take_in(run, look_back, intake.PLAIN).landed > 0


def _crop_a_batch(run: Run) -> bool:
    """The next batch, if anything waits. Only one: photos that come meanwhile are newer and go first."""
    batch = claim(run) if has_work(run) else None
    if batch is None:
        return False
    process_batch.process_batch(run, batch, process_batch.PLAIN)
    return True


def _publish(run: Run) -> None:
    """What was done so far, to the lineage collector and to people."""
    publish(run)
    if not run.funnel.nothing_new:
        report(run)
    note_backlog(run)

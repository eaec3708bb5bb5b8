"""The watch deployment: one process that polls every second, for crops seconds after the photo."""

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
from flows.running import Source, drained_on_failure, open_run, run_name
from tasks import intake, process_batch
from tasks.backlog import emit, note_backlog
from tasks.claim import claim, has_work
from tasks.poll import anything_new
from tasks.publish import publish
from tasks.rate_limit import is_rate_limited, limit_of
from tasks.report import report

# Late arrivals are found by whole polls. The polls between them look back only this far.
_SHORT_LOOK_BACK = timedelta(seconds=5)
_WHOLE_EVERY_S = 60
_LONGEST_PAUSE_S = 60
_STUCK_AFTER_S = 300


@dataclass
class WatchResult:
    """The result of a watch: polls without news, with news and failed, and the counts of their work."""

    idle: int = 0
    found: int = 0
    failed: int = 0
    funnel: Funnel = field(default_factory=Funnel)


@flow(name="watch", flow_run_name=run_name("watch"), persist_result=False)
def watch(
    every_s: Annotated[
        float, Field(title="Poll every, seconds", ge=0.1, le=60, description="seconds between polls")
    ] = 1.0,
    minutes: Annotated[
        float, Field(title="Minutes", gt=0, le=1_440, description="minutes to run; a schedule then starts the next run")
    ] = 60,
    source: Source = None,
) -> WatchResult:
    """Poll every second and crop new photos at once.

    **What it does.** Stays in one process, and asks the API for news since the cursor with one call per poll.
    When there is news or a backlog, it runs the same steps as `poll`, one batch per poll, but without Prefect
    task runs, which would take longer than the crops. Once a minute it looks back as far as `poll` does for
    late arrivals, publishes its lineage and updates its artifacts.

    **Beside poll.** Both may run: each claims its own work. Pause the schedule of `poll`, or keep it as a safety net.

    **When it fails.** A failed poll is logged and tried again after a pause that grows to one minute. When
    the API fails, the backlog is still cropped. When polls fail for five minutes, it emits the event
    `cropline.watch.stuck` and continues. It fails at its end if its last poll failed. Start it again at any
    time: it resumes an open batch.

    **Look at** its summary and log while it runs, and at the artifact `backlog`.
    """
    with open_run("watch", source) as run:
        loop = _PollLoop(run, every_s)
        until = time.monotonic() + minutes * 60
        try:
            while time.monotonic() < until:
                loop.poll_once()
                loop.wait()
        except KeyboardInterrupt:
            get_run_logger().info("stopped; the next run resumes an open batch")
        else:
            loop.end()
        return loop.result


class _PollLoop:
    """Polls repeatedly, and keeps what the next poll needs from earlier ones."""

    def __init__(self, run: Run, every_s: float) -> None:
        self._run, self._every_s = run, every_s
        self._limited = is_rate_limited(limit_of(run.settings))
        self._whole_at = self._began = float("-inf")
        self._pause = 0.0
        self._failing_since: float | None = None
        self._stuck_reported = False
        self._error: Exception | None = None
        self.result = WatchResult(funnel=run.funnel)

    def poll_once(self) -> None:
        """Poll once. Log and keep any failure; the next poll may succeed."""
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
        """Wait until the next poll is due."""
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
        """Crop first, then publish: no photo waits for a report."""
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
    """Return the name of a failure: our code, "prefect" for its server (httpx), or the exception's type."""
    if isinstance(error, httpx.HTTPError):
        return "prefect"
    return error.code if isinstance(error, CroplineError) else type(error).__name__


def _take_in(run: Run, look_back: timedelta | None) -> bool:
    """Run one intake. Return whether it landed anything."""
    return intake.take_in(run, look_back, intake.PLAIN).landed > 0


def _crop_a_batch(run: Run) -> bool:
    """Process one batch, if there is work. Only one, because newer photos go first. Return whether there was one."""
    batch = claim(run) if has_work(run) else None
    if batch is None:
        return False
    process_batch.process_batch(run, batch, process_batch.PLAIN)
    return True


def _publish(run: Run) -> None:
    """Publish the lineage and the report so far."""
    publish(run)
    if not run.funnel.nothing_new:
        report(run)
    note_backlog(run)

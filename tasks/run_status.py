"""How a step or a run ended, in lineage's terms: it failed, or it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger
from prefect.exceptions import TerminationSignal

from cropline.core.errors import CroplineError, RunStopped
from cropline.core.scrub import one_line
from cropline.lineage import EventKind
from cropline.pipeline.run import Run

# Takes (now, start, kind, reason). Returns events.
Emit = Callable[[datetime, datetime, EventKind, str], list[dict[str, Any]]]


def run_status(error: BaseException) -> EventKind:
    """Return ABORT when the run was stopped from outside, FAIL when it failed by itself."""
    return "ABORT" if isinstance(error, TerminationSignal | KeyboardInterrupt | SystemExit | RunStopped) else "FAIL"


@contextmanager
def emit_on_failure(run: Run, emit: Emit) -> Iterator[None]:
    """Guard a step with all its retries: when it fails, emit its end to lineage."""
    started_at = datetime.now(UTC)
    try:
        yield
    except BaseException as error:
        why = one_line(f"{type(error).__name__}: {error}")
        try:
            run.emit(emit(datetime.now(UTC), started_at, run_status(error), why))
        except CroplineError as second:
            get_run_logger().warning("lineage: the events of the failed step could not be emitted: %s", second)
        raise

"""How a step or a run ended, in lineage's words.

Belongs here: telling a failure from being stopped, and a failed step's end. Does not: how a flow run is told (flows/running.py).
"""

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

# (now, began at, kind, why) -> events
Emit = Callable[[datetime, datetime, EventKind, str], list[dict[str, Any]]]


def run_status(error: BaseException) -> EventKind:
    """ABORT when somebody stopped it, FAIL when it went wrong by itself."""
    return "ABORT" if isinstance(error, TerminationSignal | KeyboardInterrupt | SystemExit | RunStopped) else "FAIL"


@contextmanager
def emit_on_failure(run: Run, emit: Emit) -> Iterator[None]:
    """Around a step with all of its tries: the one that ended badly is told to lineage, whatever ended it."""
    started_at = datetime.now(UTC)
    try:
        yield
    except BaseException as error:
        why = one_line(f"{type(error).__name__}: {error}")
        try:
            run.emit(emit(datetime.now(UTC), started_at, run_status(error), why))
        except CroplineError as second:
            get_run_logger().warning("lineage: the failed step could not be told: %s", second)
        raise

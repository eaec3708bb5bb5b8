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

from cropline.errors import CroplineError, RunStopped
from cropline.lineage import EventKind
from cropline.run import Run
from cropline.scrub import one_line

# (now, began at, kind, why) -> events
Tell = Callable[[datetime, datetime, EventKind, str], list[dict[str, Any]]]


def kind_of_end(error: BaseException) -> EventKind:
    """ABORT when somebody stopped it, FAIL when it went wrong by itself."""
    return "ABORT" if isinstance(error, TerminationSignal | KeyboardInterrupt | SystemExit | RunStopped) else "FAIL"


@contextmanager
def told_when_it_fails(run: Run, tell: Tell) -> Iterator[None]:
    """Around a step with all of its tries: the one that ended badly is told to lineage, whatever ended it."""
    started_at = datetime.now(UTC)
    try:
        yield
    except BaseException as error:
        why = one_line(f"{type(error).__name__}: {error}")
        try:
            run.tell(tell(datetime.now(UTC), started_at, kind_of_end(error), why))
        except CroplineError as second:
            get_run_logger().warning("lineage: the failed step could not be told: %s", second)
        raise

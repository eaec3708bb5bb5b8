"""What the steps of one run share: settings, the open state table, who is running, and the counts so far.

Belongs here: opening and closing these. Does not: any step. Not a dataclass: Prefect copies dataclasses that it finds
in a task's arguments, and this must stay one object.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from cropline.config.settings import Settings
from cropline.core import store_probe
from cropline.core.errors import RunStopped
from cropline.core.keys import canonical_json
from cropline.lineage import EventBuilder, event_id
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.heartbeat import Heartbeat

if TYPE_CHECKING:
    from cropline.lineage import RunContext
    from cropline.state import Event, State

# Called with ("images" or "crops", how many more, of how many in all so far known).
OnProgress = Callable[[str, int, int], None]


def _no_op(stage: str, more: int, total: int) -> None:
    """The default: nobody watches."""


_progress_callback: ContextVar[OnProgress] = ContextVar("cropline_watcher", default=_no_op)


@contextmanager
def report_progress_to(on_progress: OnProgress) -> Iterator[None]:
    """Flows that run in this context report their progress to ``on_progress``: a function is no flow parameter."""
    token = _progress_callback.set(on_progress)
    try:
        yield
    finally:
        _progress_callback.reset(token)


def progress_callback() -> OnProgress:
    """Who watches the flow that runs here."""
    return _progress_callback.get()


def _counting(funnel: Funnel, on_progress: OnProgress) -> OnProgress:
    """Keep the pace for the report on its way to who watches. Batches of one run may be cut by several threads."""
    lock = threading.Lock()

    def noted(stage: str, more: int, total: int) -> None:
        if stage == "crops":
            with lock:
                funnel.throughput[int(time.time())] += more
        on_progress(stage, more, total)

    return noted


def open_state(settings: Settings) -> State:
    """The state of a run. Raises StateError in one line when it cannot be used, or belongs to another storage or API."""
    from cropline.state import State

    state = State.open(settings.state)
    try:
        state.bind(settings.storage.spec.identity, settings.api.source, settings.api.url or None)
    except BaseException:
        state.close()
        raise
    return state


class Run:
    """One run of a flow. Use as a context manager: the state table is opened on entry and closed on exit.

    Raises StateError or StorageError in one line when the database or the output cannot be used, or do not belong together.
    """

    def __init__(self, settings: Settings, context: RunContext, on_progress: OnProgress) -> None:
        self.settings = settings
        self.context = context
        self.funnel = Funnel()
        self.on_progress = _counting(self.funnel, on_progress)
        self.spec = settings.storage.spec
        self.event_builder = EventBuilder(settings, context)
        self.half = Funnel()  # what an intake that failed had counted: only a run that fails reports it
        self.near: dict[str, Path] = {}  # the newest landed manifest, by its key: it lies on this machine too
        self.committing = threading.Lock()  # batches of one run are committed one at a time
        self.shown: dict[str, UUID] = {}  # key of an artifact -> its id, once it was shown
        self._counting = threading.Lock()
        self._stopped = threading.Event()
        self._state: State | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        store_probe.require(self.spec)
        self._state = open_state(self.settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state is not None:
            self._state.close()
        if self._folder is not None:
            shutil.rmtree(self._folder)

    def add(self, part: Funnel) -> None:
        """Add to the run's counts what a part of it came to."""
        with self._counting:
            self.funnel.add(part)

    def stop(self) -> None:
        """The run ends: batches that other threads of it have in hand end too."""
        self._stopped.set()

    def check_stopped(self) -> None:
        """Raises RunStopped after stop()."""
        if self._stopped.is_set():
            raise RunStopped("another batch of the run failed, or the run was cancelled")

    @property
    def state(self) -> State:
        if self._state is None:
            raise RuntimeError("the run is not open: use it in a with statement")
        return self._state

    def events(self, events: Sequence[dict[str, Any]]) -> list[Event]:
        """Lineage events as the outbox takes them."""
        from cropline.state import Event

        return [Event(event_id(event), canonical_json(event)) for event in events]

    def emit(self, events: Sequence[dict[str, Any]]) -> None:
        """Put lineage events into the outbox on their own, when no transaction of a step carries them."""
        self.state.enqueue_events(self.events(events))

    def begin(self) -> Heartbeat:
        """Tell lineage that the run is under way. While the answer is entered, the state knows that it still runs."""
        flow_run = self.context.flow_run_id
        self.state.begin_run(flow_run, self.events(self.event_builder.began())[0])
        return Heartbeat(lambda: self.state.renew_run(flow_run), self.settings.state.lease_s / 3, f"run {flow_run}")

    def end(self, events: Sequence[dict[str, Any]]) -> bool:
        """Tell lineage how the run ended; False when another took it for dead and has told so."""
        return self.state.end_run(self.context.flow_run_id, self.events(events))

    @property
    def folder(self) -> Path:
        """A local folder that lives as long as the run."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="cropline-"))
        return self._folder

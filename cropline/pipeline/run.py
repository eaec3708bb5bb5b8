"""What the steps of one run share: settings, the open state table, the run's identity, and the counts so far.

``Run`` is not a dataclass: Prefect copies the dataclasses in a task's arguments, and there must be one ``Run``.
"""

from __future__ import annotations

import copy
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

from cropline.config.settings import Settings, files_instead
from cropline.core import store_probe
from cropline.core.errors import RunStopped
from cropline.core.keys import canonical_json
from cropline.core.spans import NO_SPANS, Spans
from cropline.intake.photo_places import check_named_files
from cropline.lineage import EventBuilder, EventKind, event_id
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.heartbeat import Heartbeat

if TYPE_CHECKING:
    from cropline.lineage import RunContext
    from cropline.state import Event, State

# Arguments: the stage ("images" or "crops"), how many were done since the last call, and the total as far as known.
OnProgress = Callable[[str, int, int], None]


def _no_op(stage: str, more: int, total: int) -> None:
    """No-op callback."""


_progress_callback: ContextVar[OnProgress] = ContextVar("cropline_watcher", default=_no_op)


@contextmanager
def report_progress_to(on_progress: OnProgress) -> Iterator[None]:
    """Report the progress of flows in this context to ``on_progress``: a function cannot be a flow parameter."""
    token = _progress_callback.set(on_progress)
    try:
        yield
    finally:
        _progress_callback.reset(token)


def progress_callback() -> OnProgress:
    """Return the progress callback of the current context."""
    return _progress_callback.get()


def _counting(funnel: Funnel, on_progress: OnProgress) -> OnProgress:
    """Return a callback that counts throughput and calls ``on_progress``. Several threads may call it."""
    lock = threading.Lock()

    def noted(stage: str, more: int, total: int) -> None:
        if stage == "crops":
            with lock:
                funnel.throughput[int(time.time())] += more
        on_progress(stage, more, total)

    return noted


def open_spans(settings: Settings, flow_run_id: str, **attributes: str) -> Spans:
    """Return the spans of a run; without a collector in the settings, none."""
    if not settings.otlp.url:
        return NO_SPANS
    from cropline.pipeline.otlp import OtlpSpans

    return OtlpSpans(settings.otlp, flow_run_id, {**attributes})


def open_state(settings: Settings) -> State:
    """Open the state of a run. Raise StateError when it is unusable or belongs to another storage or API."""
    from cropline.state import State

    state = State.open(settings.state)
    try:
        for name in settings.source_names:
            state.bind(settings.storage.spec.identity, name, settings.of(name).api.address)
    except BaseException:
        state.close()
        raise
    return state


class Run:
    """One run of a flow. A context manager: it opens the state table on entry and closes it on exit.

    Raises StateError or StorageError when the database or the output is unusable, or when they do not belong together.
    """

    def __init__(
        self, settings: Settings, context: RunContext, on_progress: OnProgress, spans: Spans = NO_SPANS
    ) -> None:
        self.settings = settings
        self.context = context
        self.spans = spans
        self.funnel = Funnel()
        self.on_progress = _counting(self.funnel, on_progress)
        self.spec = settings.storage.spec
        self.event_builder = EventBuilder(settings, context)
        self.once = False  # files are read beside the source: they are not remembered, and the cursor stays
        self.half = Funnel()  # counts of an intake that failed; only a failed run reports them
        self.near: dict[str, Path] = {}  # storage key -> local file of the newest landed manifest
        self.committing = threading.Lock()  # batches of one run are committed one at a time
        self.shown: dict[str, UUID] = {}  # key of an artifact -> its id, once it exists
        self._counting = threading.Lock()
        self._stopped = threading.Event()
        self._state: State | None = None
        self._folders: list[Path] = []

    def __enter__(self) -> Self:
        store_probe.require(self.spec)
        self._state = open_state(self.settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state is not None:
            self._state.close()
        for folder in self._folders:
            shutil.rmtree(folder)

    def of(self, source: str) -> Run:
        """Return this run with the settings of one of its sources. Everything else is shared."""
        if self.settings.source_names == (source,):
            return self
        view = copy.copy(self)
        view.settings = self.settings.of(source)
        view.event_builder = EventBuilder(view.settings, self.context)
        return view

    def add(self, part: Funnel) -> None:
        """Add the counts of one part to the run's counts."""
        with self._counting:
            self.funnel.add(part)

    def stop(self) -> None:
        """Stop the batches that other threads of this run are processing."""
        self._stopped.set()

    def check_stopped(self) -> None:
        """Raise RunStopped after ``stop()``."""
        if self._stopped.is_set():
            raise RunStopped("another batch of the run failed, or the run was cancelled")

    @property
    def state(self) -> State:
        if self._state is None:
            raise RuntimeError("the run is not open: use it in a with statement")
        return self._state

    def events(self, events: Sequence[dict[str, Any]]) -> list[Event]:
        """Return lineage events in the form that the outbox stores."""
        from cropline.state import Event

        return [Event(event_id(event), canonical_json(event)) for event in events]

    def emit(self, events: Sequence[dict[str, Any]]) -> None:
        """Put lineage events into the outbox in a separate transaction."""
        self.state.enqueue_events(self.events(events))

    def read_once(self, files: str, form: str) -> None:
        """Read these files instead of the source, with its mapping. Raise SettingsError."""
        self.settings = self.settings.model_copy(update={"api": files_instead(self.settings.api, files, form)})
        self.once = True
        if self.context.deployment is not None:
            check_named_files(self.settings)

    def begin(self) -> Heartbeat:
        """Emit the run's START event. Return a context manager that renews the run's lease."""
        flow_run = self.context.flow_run_id
        self.state.begin_run(flow_run, self.events(self.event_builder.began())[0])
        return Heartbeat(lambda: self.state.renew_run(flow_run), self.settings.state.lease_s / 3, f"run {flow_run}")

    def end(self, status: EventKind, events: Sequence[dict[str, Any]]) -> bool:
        """Record and emit the run's end. Return False when another process considered it dead and has emitted its end."""
        self.state.note_flow_end(self.context.flow_name, self.context.deployment, status)
        return self.state.end_run(self.context.flow_run_id, self.events(events))

    @property
    def folder(self) -> Path:
        """A local folder that is removed when the run ends."""
        if not self._folders:
            self._folders.append(Path(tempfile.mkdtemp(prefix="cropline-")))
        return self._folders[0]

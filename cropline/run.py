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

from cropline import store_probe
from cropline.errors import RunStopped, StaleLease, StateError
from cropline.funnel import Funnel
from cropline.keys import canonical_json
from cropline.lineage import Story, event_id
from cropline.settings import Settings

if TYPE_CHECKING:
    from cropline.lineage import RunContext
    from cropline.state import Event, State

# Called with ("images" or "crops", how many more, of how many in all so far known).
OnProgress = Callable[[str, int, int], None]


def _silent(stage: str, more: int, total: int) -> None:
    """The default: nobody watches."""


_watcher: ContextVar[OnProgress] = ContextVar("cropline_watcher", default=_silent)


@contextmanager
def watch(on_progress: OnProgress) -> Iterator[None]:
    """Flows that run in this context report their progress to ``on_progress``: a function is no flow parameter."""
    token = _watcher.set(on_progress)
    try:
        yield
    finally:
        _watcher.reset(token)


def watcher() -> OnProgress:
    """Who watches the flow that runs here."""
    return _watcher.get()


def _noting(funnel: Funnel, on_progress: OnProgress) -> OnProgress:
    """Keep the pace for the report on its way to who watches. Batches of one run may be cut by several threads."""
    lock = threading.Lock()

    def noted(stage: str, more: int, total: int) -> None:
        if stage == "crops":
            with lock:
                funnel.pace[int(time.time())] += more
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
        self.on_progress = _noting(self.funnel, on_progress)
        self.spec = settings.storage.spec
        self.story = Story(settings, context)
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

    def events(self, told: Sequence[dict[str, Any]]) -> list[Event]:
        """Lineage events as the outbox takes them."""
        from cropline.state import Event

        return [Event(event_id(event), canonical_json(event)) for event in told]

    def tell(self, told: Sequence[dict[str, Any]]) -> None:
        """Put lineage events into the outbox on their own, when no transaction of a step carries them."""
        self.state.enqueue_events(self.events(told))

    def begin(self) -> Heartbeat:
        """Tell lineage that the run is under way. While the answer is entered, the state knows that it still runs."""
        flow_run = self.context.flow_run_id
        self.state.begin_run(flow_run, self.events(self.story.began())[0])
        return Heartbeat(lambda: self.state.keep_run(flow_run), self.settings.state.lease_s / 3, f"run {flow_run}")

    def end(self, told: Sequence[dict[str, Any]]) -> bool:
        """Tell lineage how the run ended; False when another took it for dead and has told so."""
        return self.state.end_run(self.context.flow_run_id, self.events(told))

    @property
    def folder(self) -> Path:
        """A local folder that lives as long as the run."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="cropline-"))
        return self._folder


class Heartbeat:
    """Renews a lease, of a batch or of the run itself, while it is entered."""

    def __init__(self, renew: Callable[[], None], every_s: float, of: str) -> None:
        self._lost: StaleLease | None = None
        self._renew, self._every_s = renew, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease of {of}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raises StaleLease when another has the lease."""
        if self._lost is not None:
            raise StaleLease(str(self._lost))

    def _beat(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._renew()
            except StaleLease as error:
                self._lost = error
                return
            except StateError:
                continue  # the database may come back before the lease ends; the commit decides, not this thread

"""The cluster session of this process: opened when a batch needs one, checked before each batch, kept for the next.

Opening one takes seconds, so it is kept. Threads share it. A session that cannot run work any more is
replaced once per piece of a batch: see ``with_session``.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar

from cropline.core.errors import CroplineError, EngineError, NotReachable, SessionLost

if TYPE_CHECKING:
    from cropline.config.settings import EngineSettings
    from fugue_jobs.engines.clusters import Cluster
    from fugue_jobs.engines.packages import Packages

log = logging.getLogger(__name__)

Result = TypeVar("Result")
# Between two tries to reach a cluster that restarts.
RETRY_S = 1.0
_EXTRAS = {"spark": "spark", "spark-connect": "spark", "emr-serverless": "spark", "dask": "dask", "ray": "ray"}


@dataclass(eq=False)
class Session:
    """An open session. ``begin`` is the first thing that work on it calls. ``workers``: the packages of those asked so far."""

    settings: EngineSettings
    cluster: Cluster
    most_executors: int
    users: int = 0
    ended: bool = False
    workers: dict[str, Packages] = field(default_factory=dict)

    def is_outgrown(self, most_executors: int) -> bool:
        """Whether a new session is worth its start: this one cannot get half the executors that the backlog needs now."""
        scales = self.settings.kind == "spark" and not self.settings.master.startswith("local")
        return scales and not self.users and most_executors >= 2 * self.most_executors

    def begin(self, *, copies_bits: bool = False) -> None:
        """Begin a batch, perhaps with a lossless jpeg profile. Raise EngineError when a worker lacks a package."""
        from fugue_jobs.engines.packages import compare, compare_lossless

        self.cluster.begin()
        asked = self.cluster.packages()
        compare(self.cluster.where, asked)
        self.workers |= asked
        if copies_bits:
            compare_lossless(self.cluster.where, self.workers)
        self.cluster.ship()


@dataclass
class _Keeper:
    kept: Session | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_keeper = _Keeper()


def with_session(
    settings: EngineSettings, most_executors: int, work: Callable[[Session], Result], check: Callable[[], None]
) -> Result:
    """Run the work on the kept session, or on a new one. If the session is lost, run it once more on another.

    The work must be repeatable: it may have run in part. most_executors: that the backlog needs. check: called
    every second while a cluster that was lost cannot be reached; an exception from it ends the wait.

    Raise EngineError: no session can be opened, the work failed, or the second session was lost too. Other
    CroplineErrors and signals' exceptions are raised as they are.
    """
    wanted = settings.model_copy(update={"script": None, "partitions": 0, "stores": None, "processes": 0, "frames": {}})
    try:
        return _attempted(wanted, most_executors, work)
    except SessionLost as error:
        lost = error
    log.warning("%s. The batch continues in a new session", lost)
    try:
        return _attempted_when_back(wanted, most_executors, work, check)
    except EngineError as error:
        first = "the same" if str(error) == str(lost) else str(lost)
        raise EngineError(f"{error}. This was the second try; the first ended with: {first}") from error


def _attempted_when_back(
    wanted: EngineSettings, most_executors: int, work: Callable[[Session], Result], check: Callable[[], None]
) -> Result:
    """Attempt the work. A server that restarts does not answer for some 20 s: try until the grant time has passed."""
    limit_s, setting = _grant_time(wanted)
    deadline = monotonic() + limit_s
    while True:
        try:
            return _attempted(wanted, most_executors, work)
        except NotReachable as error:
            if monotonic() >= deadline:
                raise EngineError(f"{error}, also after {limit_s} s (CROPLINE_ENGINE__{setting})") from error
        # Outside the lock: a thread with another cluster need not wait.
        check()
        sleep(RETRY_S)


def _grant_time(settings: EngineSettings) -> tuple[int, str]:
    """Return the grant time of the engine, s, and its setting."""
    if settings.kind == "dask":
        return settings.dask.grant_timeout_s, "DASK__GRANT_TIMEOUT_S"
    if settings.kind == "ray":
        return settings.ray.grant_timeout_s, "RAY__GRANT_TIMEOUT_S"
    return settings.spark.grant_timeout_s, "SPARK__GRANT_TIMEOUT_S"


def _attempted(wanted: EngineSettings, most_executors: int, work: Callable[[Session], Result]) -> Result:
    from fugue_jobs.engines.clusters import cause

    with _borrowed(wanted, most_executors) as mine:
        try:
            return work(mine)
        except BaseException as error:
            lost = error if isinstance(error, SessionLost) else _loss(mine, error)
            _abandon(mine, is_lost=lost is not None)
            if lost is not None:
                raise lost from error
            if isinstance(error, CroplineError) or not isinstance(error, Exception):
                raise
            raise EngineError(f"the job failed on {wanted.kind}: {cause(error)}") from error


def _loss(mine: Session, error: BaseException) -> SessionLost | None:
    """Return why the session is lost; None when it works, or when the error has nothing to do with it."""
    if isinstance(error, CroplineError) and not isinstance(error, EngineError):
        return None
    if not isinstance(error, Exception):
        return None
    try:
        _check(mine.cluster)
    except SessionLost as lost:
        return lost
    return None


def _check(cluster: Cluster) -> None:
    """Raise SessionLost when the session cannot run work, or does not answer in time."""
    from fugue_jobs.engines.clusters import ANSWER_S, done_within

    if not done_within(ANSWER_S, cluster.check_session):
        cluster.give_up()
        raise SessionLost(f"{cluster.where} did not answer in {ANSWER_S} s")


@contextmanager
def _borrowed(wanted: EngineSettings, most_executors: int) -> Iterator[Session]:
    """Yield the kept session if its settings are the same and it is large enough, else a new one. A session in use stays open.

    Raise SessionLost when the kept one cannot run work; the next call opens another.
    """
    with _keeper.lock:
        mine = _keeper.kept
        if mine is None or mine.settings != wanted or mine.is_outgrown(most_executors):
            _keeper.kept = None
            if mine is not None and not mine.users:
                log.info("a new session, for at most %d executors; the kept one ends", most_executors)
                mine.cluster.stop()
            mine = Session(wanted, _started(wanted, most_executors), most_executors)
            _keeper.kept = mine
            is_new = True
        else:
            is_new = False
        mine.users += 1
    try:
        if not is_new:
            try:
                _check(mine.cluster)
            except SessionLost:
                _abandon(mine, is_lost=True)
                raise
        yield mine
    finally:
        with _keeper.lock:
            mine.users -= 1
            unused = not mine.users and _keeper.kept is not mine and not mine.ended
        if unused:
            mine.cluster.stop()


def _started(settings: EngineSettings, most_executors: int) -> Cluster:
    try:
        return _opened(settings, most_executors)
    except ImportError as error:
        raise EngineError(
            f"engine {settings.kind} needs a package that is not installed here, {error.name}: "
            f"pip install 'cropline[{_EXTRAS[settings.kind]}]'"
        ) from error


def _opened(settings: EngineSettings, most_executors: int) -> Cluster:
    match settings.kind:
        case "spark":
            from fugue_jobs.engines.spark import SparkCluster

            return SparkCluster(settings, most_executors)
        case "spark-connect":
            from fugue_jobs.engines.spark_connect import ConnectCluster

            return ConnectCluster(settings)
        case "dask":
            from fugue_jobs.engines.dask import DaskCluster

            return DaskCluster(settings)
        case _:
            from fugue_jobs.engines.ray import RayCluster

            return RayCluster(settings)


def _abandon(mine: Session, *, is_lost: bool) -> None:
    """End the work of a failed or cancelled job, and its session, whose state is unknown.

    Jobs of other threads on it fail too; their batches are resumed.
    """
    from fugue_jobs.engines.clusters import STOP_S, end_within

    with _keeper.lock:
        if _keeper.kept is mine:
            _keeper.kept = None
        ended, mine.ended = mine.ended, True
    if not ended:
        steps = [mine.cluster.stop] if is_lost else [mine.cluster.cancel, mine.cluster.stop]
        end_within(STOP_S, *steps)


def stop_engines() -> None:
    """End the kept cluster session, if any; the next job starts another."""
    with _keeper.lock:
        kept, _keeper.kept = _keeper.kept, None
    if kept is not None:
        kept.cluster.stop()


atexit.register(stop_engines)

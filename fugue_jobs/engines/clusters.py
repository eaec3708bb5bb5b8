"""Shared by all clusters: reaching one, waiting for it, ending its work, and errors in one line."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cropline.core.errors import NotReachable
from cropline.core.scrub import one_line

if TYPE_CHECKING:
    from fugue_jobs.engines.manifests import Images
    from fugue_jobs.engines.packages import Packages

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# A hung cluster must not delay the cancellation of a run.
STOP_S = 8
CHECK_S = 1
# A session that says nothing for so long is lost. Longer than a pause of a busy JVM.
ANSWER_S = 20

_WAITED = "SparkException: Exception thrown in awaitResult:"


class Cluster(Protocol):
    """A session on a cluster: what runs the job's script, and how its work is watched and ended."""

    where: str  # the cluster and its address, for messages

    @property
    def engine(self) -> Any:
        """The Fugue execution engine. Fugue has no types."""

    def check_session(self) -> None:
        """Ask the cluster whether this session can run work. Raise SessionLost with the reason if it cannot.

        It costs a few ms when it can. It may never return; the caller gives up after ANSWER_S.
        """

    def packages(self) -> dict[str, Packages]:
        """The packages of each worker that was not asked before (packages.installed), by the worker's name."""

    def ship(self) -> None:
        """Send our own code to the workers, once per session."""

    def frame(self, table: Images) -> Any:
        """The table as a frame of this cluster."""

    def begin(self) -> None:
        """A batch begins: cancel() ends what runs from here on."""

    def check(self) -> None:
        """Called while work waits or runs. Raises EngineError when the cluster provides no worker for too long."""

    def cancel(self) -> None:
        """End what has run since begin()."""

    def stop(self) -> None:
        """Leave the cluster, and end it if we started it. A lost session is only forgotten here."""

    def give_up(self) -> None:
        """Called before stop() when the cluster does not answer: stop() must not ask it anything."""

    def executors(self, since: float) -> tuple[tuple[float, float], ...]:
        """(start, end) of every executor that existed after ``since``, Unix seconds; empty when unknown."""


def check_reachable(what: str, addresses: Iterable[tuple[str, int]], timeout_s: float) -> None:
    """Raise NotReachable when no address accepts a connection. Spark itself would try for a minute or more."""
    tried = list(addresses)
    for address in tried:
        try:
            socket.create_connection(address, timeout=timeout_s).close()
        except OSError:
            continue
        return
    if tried:
        names = ", ".join(f"{host}:{port}" for host, port in tried)
        raise NotReachable(f"no {what} answers at {names}")


def in_own_thread(work: Callable[[], Result], check: Callable[[], None]) -> Result:
    """Run ``work`` in another thread while this one waits, so that a signal's exception is raised at once.

    ``check`` is called every second. An exception from it ends the wait, not the work.

    An interrupted PySpark collect would first wait for its job to end.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            outcome.set_exception(error)

    threading.Thread(target=run, name="cluster job", daemon=True).start()
    # Not result(CHECK_S): a TimeoutError could come from ``work``.
    while not wait([outcome], CHECK_S).done:
        check()
    return outcome.result()


def done_within(seconds: float, ask: Callable[[], None]) -> bool:
    """Return whether ``ask`` returned in time, in another thread. Raise what it raised."""
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            ask()
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    threading.Thread(target=run, name="ask cluster", daemon=True).start()
    if not wait([outcome], seconds).done:
        return False
    outcome.result()
    return True


def end_within(seconds: float, *steps: Callable[[], None]) -> None:
    """Run the steps in order in another thread. Stop waiting after this many seconds.

    A failing step is logged and the next one runs: a job that cannot be cancelled does not keep the session open.
    """

    def run() -> None:
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - a cluster's client raises anything
                log.warning("the cluster's job could not be ended: %s", cause(error))

    thread = threading.Thread(target=run, name="end cluster job", daemon=True)
    thread.start()
    thread.join(seconds)


# What Spark reports without the setting that is behind it.
_HINTS = (
    (
        r"INVALID_DRIVER_MEMORY|INVALID_EXECUTOR_MEMORY",
        "see spark.driver.memory and spark.executor.memory in CROPLINE_ENGINE__CONF",
    ),
    (
        r"TaskResultLost|bigger than spark\.driver\.maxResultSize",
        "the rows of a batch are larger than spark.driver.maxResultSize of CROPLINE_ENGINE__CONF, or an executor left",
    ),
    (
        r"OutOfMemoryError|exit(ed with)? code 137|Exit status: 137",
        "give executors more memory (spark.executor.memory, spark.executor.memoryOverhead in CROPLINE_ENGINE__CONF)",
    ),
    (
        # The executor's end is an older failure, which Spark does not name here.
        r"MetadataFetchFailedException|FetchFailedException|maximum allowable number of times",
        "executors that held the input of parts were lost again and again; if they were killed for their memory (exit code "
        "137 in the cluster's log), give them more: spark.executor.memory, spark.executor.memoryOverhead in "
        "CROPLINE_ENGINE__CONF",
    ),
    (
        # All that a Connect server tells.
        r'details = "Java heap space',
        "the server's JVM ran out of memory: start it with a larger spark.driver.memory, or make batches and tables smaller",
    ),
)


def cause(error: BaseException) -> str:
    """Return one line from Spark's long texts: our own error on a worker, else Python's error there, else Java's error
    behind py4j, else the first line. With the setting that is behind it, where it is known.
    """
    told = _line(error)
    hints = [hint for pattern, hint in _HINTS if re.search(pattern, str(error))]
    return f"{told} ({hints[0]})" if hints else told


def _line(error: BaseException) -> str:
    text = str(error).strip()
    ours = re.search(r"^cropline\.core\.errors\.\w+: (.+)$", text, re.MULTILINE)
    if ours:
        return one_line(ours[1])
    raised = re.search(r"^[A-Za-z_][\w.]*(?:Error|Exception): .+$", text.partition("\nTraceback (")[2], re.MULTILINE)
    if raised:
        return one_line(raised[0])
    # A failed wait has no cause.
    inner = re.search(r"^Caused by: (.+)$", text, re.MULTILINE) if _WAITED in text else None
    if inner:
        return one_line(inner[1])
    # gRPC's errors are objects in brackets, over several lines.
    refused = re.search(r'^\s*details = "(.+)"$', text, re.MULTILINE) if text.startswith("<") else None
    if refused:
        return one_line(refused[1])
    lines = text.split("\n")
    behind = len(lines) > 1 and lines[0].startswith("An error occurred while calling")
    first = lines[1].removeprefix(": ") if behind else lines[0]
    deeper = getattr(error, "_cause", None)
    if first.endswith(":") and isinstance(deeper, BaseException):
        return f"{one_line(first)} {_line(deeper)}"
    return one_line(first) or type(error).__name__

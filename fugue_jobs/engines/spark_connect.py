"""A session on a Spark Connect server, and the shim that lets Fugue use it.

Fugue 0.9.7 does not recognise a Connect session of Spark 4, and asks it for a SparkContext, which it
does not have. The shim becomes unnecessary with a Fugue whose ``fugue_spark._utils.misc.is_spark_connect``
recognises Spark 4's sessions: test_the_connect_shim_is_still_needed then fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fugue_spark.execution_engine import SparkExecutionEngine
from grpc import RpcError  # type: ignore[import-untyped]
from pyspark.errors import PySparkAssertionError, PySparkException

from cropline.core.errors import EngineError, SessionLost
from fugue_jobs.engines.clusters import STOP_S, check_reachable, end_within, in_own_thread
from fugue_jobs.engines.packages import Packages
from fugue_jobs.engines.shipping import zips
from fugue_jobs.engines.spark import DEFAULTS, as_spark_frame, worker_packages

if TYPE_CHECKING:
    from cropline.config.settings import EngineSettings
    from fugue_jobs.engines.manifests import Images

DEFAULT_PORT = 15002
# A client does not see how many executors there are.
_ASKED_TASKS = 8
# A busy server opens a session in a few seconds.
OPEN_S = 60
# After this time without progress the server is looked at every second.
_QUIET_S = 10


class ConnectEngine(SparkExecutionEngine):  # type: ignore[misc]
    """Fugue's Spark engine on a Connect session."""

    @property
    def is_spark_connect(self) -> bool:
        """True: Fugue gets this wrong on Spark 4."""
        return True

    def repartition(self, df: Any, partition_spec: Any) -> Any:
        """Repartition by the session. Fugue's way to make one partition needs a SparkContext."""
        if partition_spec.num_partitions == "1" and not partition_spec.partition_by:
            return self.to_df(self.to_df(df).native.repartition(1))
        return super().repartition(df, partition_spec)


class ConnectCluster:
    """A session on a Connect server. Raise EngineError when no server answers, or when it refuses the session."""

    def __init__(self, settings: EngineSettings) -> None:
        from pyspark.sql.connect.session import SparkSession

        address = settings.connect.url
        parts = urlsplit(address)
        where = (parts.hostname or "", parts.port or DEFAULT_PORT)
        check_reachable("Spark Connect server", [where], settings.spark.connect_timeout_s)
        self.where = f"the Spark Connect server at {where[0]}:{where[1]}"
        self._address, self._timeout_s = where, settings.spark.connect_timeout_s
        self._stall_timeout_s = settings.connect.stall_timeout_s
        self._ship = settings.ship
        self._asked = self._sent = self._lost = False
        self._progress = Progress()
        self.session: Any = None
        deadline = monotonic() + OPEN_S

        def open_session() -> None:
            self.session = SparkSession.builder.remote(_with_token(settings)).create()
            self._set(_settable(settings.conf))
            self.session.registerProgressHandler(self._progress)  # type: ignore[arg-type,unused-ignore]

        def check() -> None:
            if monotonic() > deadline:
                raise EngineError(f"{self.where} accepts connections but opened no session in {OPEN_S} s")

        try:
            # In a thread: the client has no time limit.
            in_own_thread(open_session, check)
        except EngineError:
            # Otherwise the client would ask the silent server again when this process ends.
            self.give_up()
            end_within(STOP_S, self.stop)
            raise
        except (PySparkException, RpcError) as error:
            raise EngineError(f"{self.where}: {_why(error)}") from None
        self.engine = ConnectEngine(self.session)

    def _set(self, conf: dict[str, str]) -> None:
        for name, value in conf.items():
            try:
                self.session.conf.set(name, value)
            except PySparkException as error:
                self.session.stop()
                raise EngineError(
                    f"the Spark Connect server refuses {name} of CROPLINE_ENGINE__CONF: {_why(error)}"
                ) from None

    def frame(self, table: Images) -> Any:
        """The table as Fugue's frame on this cluster."""
        return as_spark_frame(self.session, table)

    def check_session(self) -> None:
        """Raise SessionLost when the server is gone, restarted, or closed the session."""
        try:
            # First, because the client would try for ten minutes.
            check_reachable("Spark Connect server", [self._address], self._timeout_s)
            self.session.conf.get("spark.sql.shuffle.partitions")  # a question to the server
        except EngineError as error:
            self._lost = True
            raise SessionLost(str(error)) from None
        except (PySparkException, RpcError) as error:
            self._lost = True
            raise SessionLost(f"{self.where} {_loss(error)}") from None

    def packages(self) -> dict[str, Packages]:
        """Ask workers once."""
        if self._asked:
            return {}
        found = worker_packages(self.session, _ASKED_TASKS, self._ship)
        self._asked = True
        return found

    def ship(self) -> None:
        """Send our own packages, once per session: a server keeps the files of sessions apart."""
        if not self._sent:
            self.session.addArtifacts(*map(str, zips(self._ship)), pyfile=True)
            self._sent = True

    def begin(self) -> None:
        """Begin to watch a batch. The session is ours alone, and cancel() ends everything it runs."""
        self._progress.began()

    def check(self) -> None:
        """Raise SessionLost when the server is gone, EngineError when its work does not progress for too long."""
        still = self._progress.still_s()
        if still > _QUIET_S:
            check_reachable("Spark Connect server", [self._address], self._timeout_s)
        if still > self._stall_timeout_s:
            tasks = self._progress.running
            doing = f"{tasks} tasks run" if tasks else "no task runs"
            raise EngineError(
                f"{self.where}: for {self._stall_timeout_s} s no task of the batch began or ended ({doing}): see whether "
                "its cluster has free executors, and whether the server ran out of memory (spark.driver.memory of the "
                "server; its log has OutOfMemoryError); CROPLINE_ENGINE__CONNECT__STALL_TIMEOUT_S is the limit"
            )

    def cancel(self) -> None:
        """End what this session runs on the server."""
        self.session.interruptAll()

    def stop(self) -> None:
        """Close the session. A lost one is closed on this side only."""
        if self.session is None:
            return
        if self._lost:
            self.session.release_session_on_close = False
            self.session.client.set_retry_policies([])  # its own requests that are under way end now
        self.session.stop()

    def give_up(self) -> None:
        """A server that does not answer is asked nothing more."""
        self._lost = True

    def executors(self, since: float) -> tuple[tuple[float, float], ...]:  # noqa: ARG002 - the other clusters' signature
        """Empty: a Connect client does not see executors."""
        return ()


class Progress:
    """When a session's work last moved, as its server reports it: a progress handler of PySpark."""

    def __init__(self) -> None:
        self._seen: object = None
        self._moved_at = monotonic()
        self.running = 0

    def __call__(self, stages: Iterable[Any] | None, inflight_tasks: int, operation_id: str | None, done: bool) -> None:
        """Called by PySpark, often, and also when nothing has changed."""
        ended = tuple((stage.stage_id, stage.num_completed_tasks, stage.done) for stage in stages or ())
        seen = (operation_id, ended, inflight_tasks, done)
        self.running = inflight_tasks
        if seen != self._seen:
            self._seen, self._moved_at = seen, monotonic()

    def began(self) -> None:
        """A batch begins."""
        self._moved_at, self.running = monotonic(), 0

    def still_s(self) -> float:
        """Return the time since work last moved, s."""
        return monotonic() - self._moved_at


def _with_token(settings: EngineSettings) -> str:
    url, token = settings.connect.url, settings.connect.token.get_secret_value()
    if not token:
        return url
    base = url if "/" in url.removeprefix("sc://") else url + "/"
    return f"{base};token={token}"


def _settable(conf: dict[str, str]) -> dict[str, str]:
    """Return the settings of a session: our Spark SQL defaults and the user's. The server fixes all others."""
    ours = {name: value for name, value in DEFAULTS.items() if name.startswith("spark.sql.")}
    return ours | conf


def _loss(error: Exception) -> str:
    """Return how the session was lost, after "the server"."""
    why = _why(error)
    if isinstance(error, PySparkAssertionError) or "SESSION_CHANGED" in why or "NO_ACTIVE_SESSION" in why:
        return "was restarted: it does not know the session"
    if "SESSION_CLOSED" in why or "SESSION_NOT_FOUND" in why:
        return "closed the session: it expired after a quiet spell, or somebody ended it"
    return f"does not accept the session any more: {why}"


def _why(error: Exception) -> str:
    """Return the code of a gRPC error. Its text quotes the call, which may hold the token."""
    if isinstance(error, PySparkException):
        return error.getCondition() or type(error).__name__
    code = getattr(error, "code", None)
    return str(code().name) if callable(code) else type(error).__name__

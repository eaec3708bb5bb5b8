"""A session on a Spark Connect server, and the shim that lets Fugue use it.

Fugue 0.9.7 does not recognise a Connect session of Spark 4, and asks it for a SparkContext, which it
does not have. The shim becomes unnecessary with a Fugue whose ``fugue_spark._utils.misc.is_spark_connect``
recognises Spark 4's sessions: test_the_connect_shim_is_still_needed then fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fugue_spark.execution_engine import SparkExecutionEngine
from grpc import RpcError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException

from cropline.core.errors import EngineError
from fugue_jobs.engines.clusters import check_reachable
from fugue_jobs.engines.shipping import zips
from fugue_jobs.engines.spark import DEFAULTS, as_spark_frame

if TYPE_CHECKING:
    from cropline.config.settings import EngineSettings
    from fugue_jobs.engines.manifests import Images

DEFAULT_PORT = 15002


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
        try:
            self.session: Any = SparkSession.builder.remote(_with_token(settings)).create()
            self._set(_settable(settings.conf))
            # Once per session: a server keeps the files of sessions apart.
            self.session.addArtifacts(*map(str, zips(settings.ship)), pyfile=True)
        except (PySparkException, RpcError) as error:
            raise EngineError(f"the Spark Connect server at {where[0]}:{where[1]}: {_why(error)}") from None
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

    def begin(self) -> None:
        """No-op: the session is ours alone, and cancel() ends everything it runs."""

    def check(self) -> None:
        """No-op: a client does not see the server's executors."""

    def cancel(self) -> None:
        """End what this session runs on the server."""
        self.session.interruptAll()

    def stop(self) -> None:
        """Close the session."""
        self.session.stop()

    def executors(self, since: float) -> tuple[tuple[float, float], ...]:  # noqa: ARG002 - the other clusters' signature
        """Empty: a Connect client does not see executors."""
        return ()


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


def _why(error: Exception) -> str:
    """Return the code of a gRPC error. Its text quotes the call, which may hold the token."""
    if isinstance(error, PySparkException):
        return error.getCondition() or type(error).__name__
    code = getattr(error, "code", None)
    return str(code().name) if callable(code) else type(error).__name__

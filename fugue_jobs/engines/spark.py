"""A classic (py4j) Spark application on this machine or on a cluster: started, configured, watched, stopped."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cropline.core.errors import EngineError, SessionLost
from fugue_jobs.engines.clusters import cause, check_reachable
from fugue_jobs.engines.driver_jvm import DriverJvm, master_addresses
from fugue_jobs.engines.manifests import IMAGE_ROWS, Images, ManifestRows
from fugue_jobs.engines.packages import Packages, installed
from fugue_jobs.engines.shipping import zips

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cropline.config.engine import SparkSettings
    from cropline.config.settings import EngineSettings

GROUP = "cropline"
DEFAULTS = {
    "spark.ui.showConsoleProgress": "false",
    # Safe: a photo that is cut twice writes the same bytes to the same keys. A task counts as slow only after a while.
    "spark.speculation": "true",
    "spark.speculation.minTaskRuntime": "60s",
    # Out of heap memory the JVM would live on, without the threads that died: it ends, and a new one starts.
    "spark.driver.extraJavaOptions": "-XX:+ExitOnOutOfMemoryError",
    # Each row holds dozens of boxes: with Spark's 10,000 rows a batch would have tens of MB.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "512",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}


class SparkCluster:
    """The Spark application of this process. ``engine`` is what Fugue runs on.

    Raise EngineError when the master does not answer, or when this process has an application on another one.
    """

    def __init__(self, settings: EngineSettings, most_executors: int) -> None:
        from fugue_spark import SparkExecutionEngine

        self.where = f"Spark on {settings.master}"
        check_reachable("Spark master", master_addresses(settings.master), settings.spark.connect_timeout_s)
        self._own = True
        self._asked = self._sent = False
        self._grant_timeout_s = settings.spark.grant_timeout_s
        self._without_since = time.monotonic()
        self.session: Any = self._open(settings, most_executors)
        self._ship = settings.ship
        self._jvm = DriverJvm(self.session.sparkContext)
        self.engine = SparkExecutionEngine(self.session)

    def _open(self, settings: EngineSettings, most_executors: int) -> Any:
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        running = SparkContext._active_spark_context
        if running is not None and DriverJvm(running).death is not None:
            DriverJvm(running).forget()
            running = None
        if running is not None:
            if running.master != settings.master:
                raise EngineError(f"a Spark application already runs here on {running.master}, not {settings.master}")
            other = [name for name, value in settings.conf.items() if running.getConf().get(name) != value]
            if other:
                raise EngineError(
                    f"a Spark application already runs here, with another {min(other)} than CROPLINE_ENGINE__CONF"
                )
            self._own = False
            return SparkSession(running)
        builder = SparkSession.builder.master(settings.master).appName(GROUP)
        for name, value in options(settings, most_executors).items():
            builder = builder.config(name, value)
        try:
            session = builder.getOrCreate()
        except Exception as error:  # py4j and PySpark share no base class
            raise EngineError(f"Spark did not start on {settings.master}: {cause(error)}") from error
        # Without it, workers run any "python3" on their path.
        session.sparkContext.pythonExec = settings.spark.python or os.environ.get("PYSPARK_PYTHON") or sys.executable
        return session

    def frame(self, table: Images) -> Any:
        """Return the table as Fugue's frame on this cluster."""
        return as_spark_frame(self.session, table)

    def check_session(self) -> None:
        """Raise SessionLost when the JVM has died, or when the application has ended or its master does not know it."""
        why = self._jvm.death or self._jvm.ended()
        if why is not None:
            raise SessionLost(f"{self.where}: {why}")

    def packages(self) -> dict[str, Packages]:
        """Ask workers once. With executors that come and go, some may not be among them."""
        if self._asked:
            return {}
        context = self.session.sparkContext
        # Local workers have this machine's modules.
        ship = () if context.master.startswith("local") else self._ship
        found = worker_packages(self.session, max(1, context.defaultParallelism), ship)
        self._asked = True
        return found

    def ship(self) -> None:
        """Send our own packages: workers need only the third-party wheels."""
        if not self._sent:
            for path in zips(self._ship):
                self.session.sparkContext.addPyFile(str(path))
            self._sent = True

    def begin(self) -> None:
        """Start a job group: cancel() ends what runs in it."""
        self.session.sparkContext.setJobGroup(GROUP, "crops of a batch", interruptOnCancel=True)
        self._without_since = time.monotonic()

    def check(self) -> None:
        """Raise EngineError when there was no executor for too long, SessionLost when the JVM or the application is gone.

        Called while work waits or runs.
        """
        if self._jvm.death is not None:
            raise SessionLost(f"{self.where}: {self._jvm.death}")
        context = self.session.sparkContext
        now = time.monotonic()
        if context.master.startswith("local") or context._jsc.sc().statusStore().executorList(True).size() > 1:
            self._without_since = now  # the list includes the driver
            return
        # Without executors it may be the master that forgot us: it would give us none for ever.
        self.check_session()
        if now - self._without_since > self._grant_timeout_s:
            asked = context.getConf()
            raise EngineError(
                f"{context.master} provided no executor in {self._grant_timeout_s} s; one asks for "
                f"{asked.get('spark.executor.cores', '1')} cores and {asked.get('spark.executor.memory', '1g')} of memory: "
                "see whether its workers have that free, ask for less (CROPLINE_ENGINE__SPARK__EXECUTOR_CORES, "
                "spark.executor.memory in CROPLINE_ENGINE__CONF) or wait longer (CROPLINE_ENGINE__SPARK__GRANT_TIMEOUT_S)"
            )

    def cancel(self) -> None:
        """End what has run since begin()."""
        self.session.sparkContext.cancelJobGroup(GROUP)

    def stop(self) -> None:
        """End the application, unless it was started elsewhere. Forget a dead JVM: PySpark would use it for ever."""
        if self._jvm.death is not None:
            self._jvm.forget()
        elif self._own:
            self.session.stop()

    def give_up(self) -> None:
        """End a JVM that does not answer, if we started it."""
        if self._own:
            self._jvm.kill()

    def executors(self, since: float) -> tuple[tuple[float, float], ...]:
        """Return (start, end) of every executor that existed after ``since``. Earlier times are cut off."""
        now = time.time()
        found = self.session.sparkContext._jsc.sc().statusStore().executorList(False)
        spans = []
        for position in range(found.size()):
            executor = found.apply(position)
            if executor.id() == "driver":
                continue
            gone = executor.removeTime()
            went = gone.get().getTime() / 1000 if gone.isDefined() else now
            if went > since:
                spans.append((max(since, executor.addTime().getTime() / 1000), went))
        return tuple(sorted(spans))


def options(settings: EngineSettings, most_executors: int) -> dict[str, str]:
    """Return Spark's settings for our application. The user's ``conf`` wins."""
    chosen = dict(DEFAULTS)
    if settings.master.startswith("local"):
        chosen["spark.ui.enabled"] = "false"
    else:
        chosen |= autoscaled(settings.spark, most_executors)
    return chosen | settings.conf


def autoscaled(spark: SparkSettings, most_executors: int) -> dict[str, str]:
    """Return settings for executors that scale between the configured bounds, or for a fixed number of them."""
    cores = {"spark.executor.cores": str(spark.executor_cores)}
    if not spark.autoscale:
        # Without it a standalone master gives an application every core it has.
        return cores | {"spark.cores.max": str(most_executors * spark.executor_cores)}
    return cores | {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": str(spark.min_executors),
        "spark.dynamicAllocation.initialExecutors": str(spark.min_executors),
        "spark.dynamicAllocation.maxExecutors": str(most_executors),
        "spark.dynamicAllocation.executorIdleTimeout": f"{spark.idle_s}s",
        # Without it an executor with shuffle blocks of a finished batch never leaves.
        "spark.dynamicAllocation.shuffleTracking.timeout": f"{spark.idle_s}s",
        # Leaving executors end their tasks first. Their blocks are not moved: the exchange is small, and with
        # both block migration and shuffle tracking Spark warns that idle executors stay too long.
        "spark.decommission.enabled": "true",
    }


def as_spark_frame(session: Any, table: Images) -> Any:
    """Return the table as a frame of the session. Workers read rows that are in manifests.

    Empty tables need an explicit schema, because Connect does not infer it from the table.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    if isinstance(table, ManifestRows):
        return as_spark_frame(session, table.parts).mapInArrow(table.reader, from_arrow_schema(IMAGE_ROWS))
    if table.num_rows:
        return session.createDataFrame(table)
    return session.createDataFrame([], schema=from_arrow_schema(table.schema))


def worker_packages(session: Any, tasks: int, ship: Sequence[str]) -> dict[str, Packages]:
    """Run so many small tasks, and return the packages of each machine that ran one, by host name. ship: see installed.

    The function needs nothing installed but Python and PySpark's own worker.
    """
    from pyspark.sql.types import StringType

    # pyspark.sql.functions would look for a classic session.
    connect = type(session).__module__.startswith("pyspark.sql.connect")
    functions: Any = import_module("pyspark.sql.connect.functions" if connect else "pyspark.sql.functions")
    found = installed(ship)

    def asked(_: int) -> str:
        import json
        import socket

        return json.dumps([socket.gethostname(), found()])

    asking = functions.udf(asked, StringType(), useArrow=False)
    rows = session.range(0, tasks, 1, tasks).select(asking("id").alias("told")).collect()
    return dict(json.loads(row["told"]) for row in rows)

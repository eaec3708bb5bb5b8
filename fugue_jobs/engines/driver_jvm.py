"""The JVM of a classic PySpark driver: whether it lives, why it died, and how to start without it.

PySpark keeps one JVM per process. It never notices that the JVM has died, and sends every later call to it.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import Any
from urllib.parse import urlsplit

from cropline.core.errors import EngineError
from fugue_jobs.engines.clusters import check_reachable

# A process that has closed its sockets is reaped a little later.
_REAP_S = 2
MASTER_S = 5
_RESTARTED = "the master was restarted: it does not know the application"
# The exit status that -XX:+ExitOnOutOfMemoryError gives.
_OUT_OF_HEAP = 3


class DriverJvm:
    """The JVM of this SparkContext."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._gateway: Any = type(context)._gateway
        self._memory = context._conf.get("spark.driver.memory", "1g")
        self._death: str | None = None

    @property
    def death(self) -> str | None:
        """Why the JVM died; None while it lives. It costs no call to the JVM."""
        process = getattr(self._gateway, "proc", None)
        if self._death is None and process is not None and process.poll() is not None:
            self._death = _why(process.returncode, self._memory)
        return self._death

    def ended(self) -> str | None:
        """Ask the JVM why the application cannot run a job; None when it can."""
        from py4j.protocol import Py4JError, Py4JNetworkError  # type: ignore[import-untyped]

        try:
            return self._ended()
        except (Py4JNetworkError, OSError):
            process = getattr(self._gateway, "proc", None)
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_REAP_S)
            self._death = self.death or "the driver's JVM does not answer any more"
            return self._death
        except Py4JError as error:
            return f"the application cannot be asked: {str(error).splitlines()[0]}"

    def _ended(self) -> str | None:
        inner = self._context._jsc.sc()
        if inner.isStopped():
            return "the application was ended: the cluster restarted, or somebody ended it"
        if not self._context.master.startswith("spark://"):
            return None
        jvm = self._gateway.jvm
        # A request that changes nothing. A master that does not know the application answers False.
        answer = inner.schedulerBackend().doKillExecutors(jvm.PythonUtils.toSeq([]))
        limit = jvm.scala.concurrent.duration.Duration.apply(MASTER_S, "s")
        try:
            knows = jvm.scala.concurrent.Await.result(answer, limit)
        except Exception:  # noqa: BLE001 - the JVM's exception has no class here: the request does not reach the master
            return self._cut_off(inner.statusStore().executorList(True).size() > 1)
        return None if knows else _RESTARTED

    def _cut_off(self, has_executors: bool) -> str | None:
        """Return why there is no connection to the master; None while executors can work without it."""
        addresses = master_addresses(self._context.master)
        try:
            check_reachable("master", addresses, MASTER_S)
        except EngineError:
            return None if has_executors else "the master is gone"
        # A driver never connects again to a master that restarted. Of several masters, another one may take over.
        return None if has_executors and len(addresses) > 1 else _RESTARTED

    def kill(self) -> None:
        """End the process, if this process started it, and close our end of its pipe."""
        process = getattr(self._gateway, "proc", None)
        if process is not None:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_REAP_S)
            with contextlib.suppress(OSError):  # nobody reads it any more
                process.stdin.close()

    def forget(self) -> None:
        """Remove the dead JVM from PySpark, so that the next session starts another."""
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        self.kill()
        if SparkContext._gateway is not self._gateway or self._gateway is None:
            return
        with contextlib.suppress(Exception):  # its other end is gone
            self._gateway.close()
        accumulators = getattr(self._context, "_accumulatorServer", None)
        if accumulators is not None:
            accumulators.shutdown()
        SparkContext._active_spark_context = None
        SparkContext._gateway = None
        SparkContext._jvm = None
        SparkSession._instantiatedSession = None


def master_addresses(master: str) -> list[tuple[str, int]]:
    """Return host and port of each master in spark://host:port,host:port; nothing for other URLs."""
    if not master.startswith("spark://"):
        return []
    parts = [urlsplit(f"//{entry}") for entry in master.removeprefix("spark://").split(",")]
    return [(part.hostname or "", part.port or 7077) for part in parts]


def _why(status: int, memory: str) -> str:
    """Return why a JVM ended with this status. memory: spark.driver.memory."""
    more = f"give it more than spark.driver.memory={memory} in CROPLINE_ENGINE__CONF, or make batches smaller"
    if status == _OUT_OF_HEAP:
        return f"the driver's JVM ran out of memory: {more} (CROPLINE_BATCH__IMAGES)"
    if status == -signal.SIGKILL:
        return (
            f"the driver's JVM was killed (SIGKILL), as a machine or container does when its memory is full: it has a heap "
            f"of spark.driver.memory={memory} and more beside it; give the machine more, or it less (CROPLINE_ENGINE__CONF)"
        )
    if status < 0:
        return f"the driver's JVM was ended by {signal.Signals(-status).name}"
    return f"the driver's JVM ended with status {status}"

"""A Dask cluster, local or remote, for task_engine.py."""

from __future__ import annotations

from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import distributed

from cropline.core.errors import EngineError
from fugue_jobs.engines.clusters import cause, check_reachable, in_own_thread
from fugue_jobs.engines.shipping import zips
from fugue_jobs.engines.task_engine import Task, TaskCluster
from fugue_jobs.pool.crop_pool import usable_cores

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.config.settings import EngineSettings

# Attempts of a new client to get an answer.
_ANSWERS = 3
# Without an explicit address a scheduler serves HTTP on port 8787 of every network, even without a dashboard.
_UNSEEN = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}


class DaskCluster(TaskCluster):
    """A client of a scheduler. Raise EngineError when none answers."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__("dask", settings.dask.grant_timeout_s)
        address = settings.dask.scheduler
        self._timeout_s = settings.dask.connect_timeout_s
        self._ship = settings.ship
        self._client: Any = None
        self._local: Any = None
        self._futures: set[Any] = set()  # of all threads that run parts
        if address:
            parts = urlsplit(address)
            check_reachable("Dask scheduler", [(parts.hostname or "", parts.port or 8786)], self._timeout_s)
        else:
            # One process per core: a task uses one core, and the tasks of one process share its crop processes.
            self._local = distributed.LocalCluster(
                n_workers=usable_cores(), threads_per_worker=1, scheduler_kwargs=_UNSEEN
            )
        with ExitStack() as opened:
            opened.callback(self.stop)
            self._connect(address or self._local.scheduler_address)
            opened.pop_all()

    def _connect(self, address: str) -> None:
        deadline = monotonic() + _ANSWERS * self._timeout_s

        def check() -> None:
            if monotonic() > deadline:
                raise EngineError(f"the Dask scheduler at {address} accepts connections but does not answer")

        try:
            # In a thread: the client's timeout does not cover the first answer, and the client would wait for ever.
            self._client = in_own_thread(
                lambda: distributed.Client(address, timeout=self._timeout_s, set_as_default=False), check
            )
            if self._local is None:
                # Covers workers that join later too. A local cluster does not need it: its workers find our code as
                # this process does. Its scheduler is in this process, and would load our modules again from a zip
                # that is deleted with the cluster.
                for path in zips(self._ship):
                    self._client.upload_file(str(path))
        except OSError as error:
            raise EngineError(f"the Dask scheduler at {address}: {cause(error)}") from error

    @property
    def cores(self) -> int:
        """The threads of all workers."""
        # With a timeout: a hung scheduler never answers.
        found: dict[str, int] = self._client.nthreads(callback_timeout=self._timeout_s)
        return sum(found.values())

    def run(self, task: Task, parts: list[pa.Table]) -> list[pa.Table]:
        """Run the task on each part. Other workers repeat the parts of lost ones."""
        futures = self._client.map(task, parts, pure=False)
        self._futures |= set(futures)
        tables: list[pa.Table] = self._client.gather(futures)
        self._futures -= set(futures)
        return tables

    def cancel(self) -> None:
        """Drop parts that have not started. Running ones finish: a Dask worker cannot stop a thread."""
        self._client.cancel(list(self._futures), force=True)

    def stop(self) -> None:
        """Close the client, and the workers if we started them."""
        if self._client is not None:
            self._client.close()
        if self._local is not None:
            self._local.close()

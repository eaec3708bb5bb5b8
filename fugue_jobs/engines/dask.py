"""A Dask cluster, local or remote, for task_engine.py."""

from __future__ import annotations

from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import distributed

from cropline.core.errors import EngineError, SessionLost
from fugue_jobs.engines.clusters import cause, check_reachable, in_own_thread
from fugue_jobs.engines.packages import Packages, installed
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
        self._asked: set[str] = set()  # addresses of workers
        self._sent = self._lost = False
        self.where = f"the Dask scheduler at {address}" if address else "the Dask cluster of this machine"
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
        except OSError as error:
            raise EngineError(f"the Dask scheduler at {address}: {cause(error)}") from error
        self._scheduler = self._identity(0)["id"]

    def _identity(self, workers: int = -1) -> dict[str, Any]:
        """Return what the scheduler says of itself and of so many workers; -1: all."""
        found: dict[str, Any] = self._client.sync(self._client.scheduler.identity, n_workers=workers)
        return found

    def check_session(self) -> None:
        """Raise SessionLost when the scheduler is gone, or is another one than at first."""
        try:
            known = self._identity(0)["id"] == self._scheduler
        except Exception as error:  # noqa: BLE001 - a closed client raises anything
            self._lost = True
            raise SessionLost(f"{self.where} is gone: {cause(error)}") from None
        if not known:
            self._lost = True
            raise SessionLost(f"{self.where} was restarted: it does not know this client")

    def packages(self) -> dict[str, Packages]:
        """Ask the workers that were not asked before. A local cluster's have what this process has."""
        if self._local is not None:
            return {}
        new = [worker for worker in self._identity()["workers"] if worker not in self._asked]
        if not new:
            return {}
        found: dict[str, Packages] = self._client.run(installed(self._ship), workers=new, on_error="ignore")
        self._asked |= set(found)
        return found

    def ship(self) -> None:
        """Send our code, also to workers that join later.

        A local cluster does not need it: its workers find our code as this process does. Its scheduler is in this
        process, and would load our modules again from a zip that is deleted with the cluster.
        """
        if self._local is None and not self._sent:
            for path in zips(self._ship):
                self._client.upload_file(str(path))
            self._sent = True

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

    def give_up(self) -> None:
        """A scheduler that does not answer is asked nothing more."""
        self._lost = True

    def stop(self) -> None:
        """Close the client, and the workers if we started them. A lost client only closes its own side."""
        if self._client is not None:
            self._client.close(timeout=1 if self._lost else 10)
        if self._local is not None:
            self._local.close()

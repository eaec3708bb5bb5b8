"""A Ray cluster, local or remote, for task_engine.py."""

from __future__ import annotations

import logging
import os
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ray

from cropline.core.errors import EngineError, NotReachable, SessionLost
from fugue_jobs.engines.clusters import CHECK_S, cause, check_reachable
from fugue_jobs.engines.packages import Packages, installed
from fugue_jobs.engines.shipping import package_folders
from fugue_jobs.engines.task_engine import Task, TaskCluster

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.config.settings import EngineSettings


# Ray ends the process of a driver whose cluster does not answer for 60 s: the driver leaves before.
_GONE_S = 30
_ALIVE = 0  # the state of a node, as the cluster tells it


class RayCluster(TaskCluster):
    """A driver of a cluster. Raise EngineError when none answers."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__("ray", settings.ray.grant_timeout_s)
        self._refs: set[Any] = set()  # of all threads that run parts
        self._asked: set[str] = set()  # ids of nodes
        self.where = f"the Ray cluster at {settings.ray.address}" if settings.ray.address else "Ray on this machine"
        self._own = not ray.is_initialized()
        if self._own:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # Not without an address: Ray would join any cluster that was started on this machine.
            where: dict[str, Any] = {"address": settings.ray.address or "local"}
            if not settings.ray.address:
                where["include_dashboard"] = False
            if settings.ray.address:
                parts = urlsplit(f"//{settings.ray.address.removeprefix('ray://')}")
                check_reachable(
                    "Ray cluster", [(parts.hostname or "", parts.port or 0)], settings.ray.connect_timeout_s
                )
            code = {"py_modules": [str(folder) for folder in package_folders(settings.ship)]}
            try:
                ray.init(**where, runtime_env=code, log_to_driver=False, logging_level=logging.WARNING)
            except (OSError, RuntimeError) as error:
                at = f" at {settings.ray.address}" if settings.ray.address else ""
                raise EngineError(f"no Ray cluster answers{at}: {cause(error)}") from error
        # A client (ray://) does not reach it: the cluster is asked by its server there.
        is_client = settings.ray.address.startswith("ray://")
        self._control = None if is_client else _Control(settings.ray.address or ray.get_runtime_context().gcs_address)
        self._answered_at = monotonic()

    def check_session(self) -> None:
        """Raise SessionLost when this process has left the cluster, or the cluster restarted or does not answer."""
        if self._control is not None and ray.is_initialized():
            try:
                known = self._control.knows_us()
            except NotReachable:
                raise SessionLost(f"{self.where} is gone") from None
            if not known:
                raise SessionLost(f"{self.where} was restarted")
            return
        try:
            alive = ray.is_initialized() and any(node["Alive"] for node in ray.nodes())
        except Exception as error:  # noqa: BLE001 - Ray's client raises anything
            raise SessionLost(f"{self.where} is gone: {cause(error)}") from None
        if not alive:
            raise SessionLost(f"{self.where} is gone")

    def packages(self) -> dict[str, Packages]:
        """Ask the nodes that were not asked before. The runtime environment may hold packages too."""
        new = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in self._asked]
        ask = ray.remote(num_cpus=0)(installed())
        there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        answers = {
            node["NodeManagerAddress"]: ask.options(scheduling_strategy=there(node["NodeID"], soft=False)).remote()
            for node in new
        }
        found: dict[str, Packages] = dict(zip(answers, ray.get(list(answers.values())), strict=True))
        self._asked |= {node["NodeID"] for node in new}
        return found

    def ship(self) -> None:
        """No-op: our code came with the runtime environment."""

    def give_up(self) -> None:
        """No-op: leaving a cluster asks it nothing."""

    def check(self) -> None:
        """Also raise SessionLost when the cluster is gone or restarted: Ray would wait, and then end this process."""
        try:
            self.check_session()
        except SessionLost:
            restarted = self._control is not None and self._control.reachable()
            if restarted or monotonic() - self._answered_at > _GONE_S:
                raise
            return
        self._answered_at = monotonic()
        super().check()

    def begin(self) -> None:
        """Start a batch."""
        super().begin()
        self._answered_at = monotonic()

    @property
    def cores(self) -> int:
        """The CPUs of all nodes."""
        if self._control is not None:
            return self._control.cores()
        return int(ray.cluster_resources().get("CPU", 0))

    def run(self, task: Task, parts: list[pa.Table]) -> list[pa.Table]:
        """Run the task on each part. Other workers repeat the parts of lost ones."""
        remote = ray.remote(num_cpus=1)(_done)
        sent = ray.put(task)
        refs = [remote.remote(sent, part) for part in parts]
        self._refs |= set(refs)
        tables: list[pa.Table] = ray.get(refs)
        self._refs -= set(refs)
        return tables

    def cancel(self) -> None:
        """End the workers of running parts, with their crop processes."""
        for ref in list(self._refs):
            ray.cancel(ref, force=True)

    def stop(self) -> None:
        """Leave the cluster. A local one ends."""
        if self._own:
            ray.shutdown()


class _Control:
    """Asks the cluster's control service (GCS), each time with a new client.

    Ray's public calls cannot be used for that: when the service has restarted, they abort the whole process (2.60).
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(f"//{address}")
        self._address, self._place = address, (parts.hostname or "", parts.port or 0)
        self._id = self._client().cluster_id

    def _client(self) -> Any:
        from ray._raylet import GcsClient

        # Its own attempts would take a minute.
        check_reachable("Ray cluster", [self._place], CHECK_S)
        return GcsClient(address=self._address)

    def reachable(self) -> bool:
        """Return whether it accepts connections."""
        try:
            check_reachable("Ray cluster", [self._place], CHECK_S)
        except NotReachable:
            return False
        return True

    def knows_us(self) -> bool:
        """Return whether it is the cluster that we joined. Raise NotReachable."""
        return bool(self._client().cluster_id == self._id)

    def cores(self) -> int:
        """Return the CPUs of its nodes. Raise TimeoutError when it does not answer."""
        try:
            nodes = self._client().get_all_node_info(timeout=CHECK_S)
        except (NotReachable, ray.exceptions.RpcError) as error:
            raise TimeoutError(str(error)) from error
        return int(sum(node.resources_total.get("CPU", 0) for node in nodes.values() if node.state == _ALIVE))


def _done(task: Task, part: pa.Table) -> pa.Table:
    return task(part)

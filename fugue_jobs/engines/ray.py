"""A Ray cluster, local or remote, for task_engine.py."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ray

from cropline.core.errors import EngineError, SessionLost
from fugue_jobs.engines.clusters import cause, check_reachable
from fugue_jobs.engines.packages import Packages, installed
from fugue_jobs.engines.shipping import package_folders
from fugue_jobs.engines.task_engine import Task, TaskCluster

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.config.settings import EngineSettings


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
            where = {"address": settings.ray.address} if settings.ray.address else {"include_dashboard": False}
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

    def check_session(self) -> None:
        """Raise SessionLost when this process has left the cluster, or the cluster does not answer."""
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

    @property
    def cores(self) -> int:
        """The CPUs of all nodes."""
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


def _done(task: Task, part: pa.Table) -> pa.Table:
    return task(part)

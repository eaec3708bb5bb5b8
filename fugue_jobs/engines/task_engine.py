"""Fugue on clusters that run functions (Dask, Ray): DuckDB runs SELECT here; the parts of a TRANSFORM are tasks there.

Fugue's own engines for them are not used: they pass parts around as pandas and Ray datasets, which
lose nested boxes (docs/decisions/0007-engines.md). Here a part is always an Arrow table, mapped by
Fugue's native engine on the worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from fugue.collections.partition import PartitionSpec
from fugue.constants import KEYWORD_PARALLELISM, KEYWORD_ROWCOUNT
from fugue.dataframe.arrow_dataframe import ArrowDataFrame
from fugue.dataframe.dataframe import DataFrame
from fugue.execution.execution_engine import ExecutionEngine, MapEngine
from fugue.execution.native_execution_engine import NativeExecutionEngine
from fugue_duckdb.execution_engine import DuckExecutionEngine
from triad.collections.schema import Schema

from cropline.core.errors import EngineError
from fugue_jobs.engines.manifests import load_rows

if TYPE_CHECKING:
    from fugue_jobs.engines.manifests import Images
    from fugue_jobs.engines.packages import Packages


@dataclass(frozen=True)
class Task:
    """What Fugue's native engine does to each part on the worker. Sent by cloudpickle."""

    map_func: Callable[..., Any]
    on_init: Callable[..., Any] | None
    schema: str
    spec: PartitionSpec

    def __call__(self, part: pa.Table) -> pa.Table:
        mapper = NativeExecutionEngine().map_engine
        done = mapper.map_dataframe(ArrowDataFrame(part), self.map_func, self.schema, self.spec, self.on_init)
        return done.as_arrow()


class TaskCluster(ABC):
    """The cluster of this process. It runs one batch at a time."""

    where: str

    def __init__(self, kind: str, grant_timeout_s: int) -> None:
        self._kind = kind
        self._grant_timeout_s = grant_timeout_s
        self._without_since = monotonic()

    @property
    def engine(self) -> ExecutionEngine:
        """A new engine for one script, since Fugue closes its DuckDB at the script's end."""
        return _TaskEngine(self)

    @property
    @abstractmethod
    def cores(self) -> int:
        """Return how many tasks can run now; 0 without workers. Raise TimeoutError when the cluster does not answer."""

    @abstractmethod
    def run(self, task: Task, parts: list[pa.Table]) -> list[pa.Table]:
        """Run the task on each part. Return the results in order. The first error ends it."""

    @abstractmethod
    def check_session(self) -> None:
        """See clusters.Cluster."""

    @abstractmethod
    def packages(self) -> dict[str, Packages]:
        """See clusters.Cluster."""

    @abstractmethod
    def ship(self) -> None:
        """See clusters.Cluster."""

    @abstractmethod
    def cancel(self) -> None:
        """End what run() has in progress."""

    @abstractmethod
    def stop(self) -> None:
        """Leave the cluster, and end it if we started it."""

    @abstractmethod
    def give_up(self) -> None:
        """See clusters.Cluster."""

    def frame(self, table: Images) -> pa.Table:
        """Return the rows, read here: DuckDB joins them in this process."""
        return load_rows(table)

    def begin(self) -> None:
        """Start a batch."""
        self._without_since = monotonic()

    def check(self) -> None:
        """Raise EngineError when there was no worker, or no answer, for too long. Called while work waits or runs."""
        try:
            cores, lack, remedy = self.cores, "had no worker", "start some"
        except TimeoutError:
            cores, lack, remedy = 0, "did not answer", "check it"
        if cores:
            self._without_since = monotonic()
        elif monotonic() - self._without_since > self._grant_timeout_s:
            raise EngineError(
                f"{self._kind} {lack} in {self._grant_timeout_s} s: {remedy}, or wait longer "
                f"(CROPLINE_ENGINE__{self._kind.upper()}__GRANT_TIMEOUT_S)"
            )

    def executors(self, since: float) -> tuple[tuple[float, float], ...]:  # noqa: ARG002 - the other clusters' signature
        """Empty: the workers are not ours, and do not scale with the work."""
        return ()


class _TaskEngine(DuckExecutionEngine):  # type: ignore[misc]
    def __init__(self, cluster: TaskCluster) -> None:
        super().__init__()
        self.cluster = cluster

    def create_default_map_engine(self) -> MapEngine:
        return _TaskMapEngine(self)

    def get_current_parallelism(self) -> int:
        return max(1, self.cluster.cores)


class _TaskMapEngine(MapEngine):
    @property
    def execution_engine_constraint(self) -> type[ExecutionEngine]:
        return _TaskEngine

    @property
    def is_distributed(self) -> bool:
        return True

    def map_dataframe(
        self,
        df: DataFrame,
        map_func: Callable[..., Any],
        output_schema: Any,
        partition_spec: PartitionSpec,
        on_init: Callable[..., Any] | None = None,
        map_func_format_hint: str | None = None,  # noqa: ARG002 - Fugue's signature
    ) -> DataFrame:
        rows = df.as_arrow()
        cluster: TaskCluster = self.execution_engine.cluster  # type: ignore[attr-defined]
        wanted = partition_spec.get_num_partitions(
            **{KEYWORD_ROWCOUNT: lambda: rows.num_rows, KEYWORD_PARALLELISM: lambda: max(1, cluster.cores)}
        )
        parts = partition_rows(rows, partition_spec.partition_by, wanted or max(1, cluster.cores))
        schema = Schema(output_schema)
        # A part is not split further.
        task = Task(map_func, on_init, str(schema), PartitionSpec(partition_spec, num=0))
        return ArrowDataFrame(pa.concat_tables([schema.create_empty_arrow_table(), *cluster.run(task, parts)]))


def partition_rows(rows: pa.Table, keys: list[str], wanted: int) -> list[pa.Table]:
    """Return one to ``wanted`` parts. With keys, the rows of one key are in one part."""
    if keys:
        numbered = rows.select(keys).append_column("__row", pa.array(range(rows.num_rows), pa.int64()))
        groups = numbered.group_by(keys).aggregate([("__row", "list")])["__row_list"].to_pylist()
        dealt = [[row for group in groups[first::wanted] for row in group] for first in range(min(wanted, len(groups)))]
        return [rows.take(pa.array(part, pa.int64())) for part in dealt] or [rows]
    count = max(1, min(wanted, rows.num_rows))
    edges = [rows.num_rows * edge // count for edge in range(count + 1)]
    return [rows.slice(first, end - first) for first, end in pairwise(edges)]

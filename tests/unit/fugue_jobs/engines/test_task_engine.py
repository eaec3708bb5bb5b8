"""How a TRANSFORM is divided into parts, and what is asked of a cluster that runs functions."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest
from fugue.sql.api import fugue_sql_flow
from hypothesis import given
from hypothesis import strategies as st

from cropline.core.errors import EngineError
from fugue_jobs.engines.packages import Packages
from fugue_jobs.engines.task_engine import Task, TaskCluster, partition_rows


class InProcess(TaskCluster):
    """A cluster that runs in this process."""

    def __init__(self, cores: int = 3) -> None:
        super().__init__("dask", 0)
        self._cores = cores
        self.parts: list[pa.Table] = []

    @property
    def cores(self) -> int:
        return self._cores

    def run(self, task: Task, parts: list[pa.Table]) -> list[pa.Table]:
        self.parts = parts
        return [task(part) for part in parts]

    def check_session(self) -> None: ...

    def packages(self) -> dict[str, Packages]:
        return {}

    def ship(self) -> None: ...

    def cancel(self) -> None: ...

    def stop(self) -> None: ...

    def give_up(self) -> None: ...


ROWS = pa.table(
    {
        "key": pa.array(["a", None, "b", "a", "c", None, "d"]),
        "row": pa.array(range(7), pa.int64()),
        "boxes": pa.array([[{"label": str(n), "x": n / 2}] * (n % 3) for n in range(7)]),
    }
)


@given(wanted=st.integers(1, 9), rows=st.integers(0, 7), keys=st.sampled_from([[], ["key"], ["key", "row"]]))
def test_each_row_is_in_one_part_and_rows_of_one_key_are_together(wanted: int, rows: int, keys: list[str]) -> None:
    parts = partition_rows(ROWS.slice(0, rows), keys, wanted)
    assert 1 <= len(parts) <= wanted
    assert all(part.num_rows for part in parts) or rows == 0
    laid = [row for part in parts for row in part.to_pylist()]
    assert sorted(laid, key=lambda row: row["row"]) == ROWS.slice(0, rows).to_pylist()
    if keys == ["key"]:
        found = [{row["key"] for row in part.to_pylist()} for part in parts]
        assert sum(len(some) for some in found) == len(set().union(*found))


def count(tables: Iterable[pa.Table]) -> Iterable[pa.Table]:
    rows = [row for table in tables for row in table.to_pylist()]
    boxes = "".join(box["label"] for row in rows for box in row["boxes"])
    yield pa.table({"rows": [len(rows)], "first": [rows[0]["row"]], "labels": [boxes]})


def transformed(clause: str, cluster: TaskCluster) -> list[dict[str, Any]]:
    script = f"out = TRANSFORM rows {clause} USING count SCHEMA rows:long,first:long,labels:str YIELD DATAFRAME"
    found = fugue_sql_flow(script, rows=ROWS, count=count).run(cluster.engine)
    table: pa.Table = found["out"].as_arrow()
    return table.to_pylist()


def test_the_number_of_parts_is_the_scripts_or_one_per_core() -> None:
    cluster = InProcess()
    assert [row["rows"] for row in transformed("COARSE PREPARTITION 2", cluster)] == [3, 4]
    assert "".join(row["labels"] for row in transformed("COARSE PREPARTITION 2", cluster)) == "122455"
    assert len(transformed("", cluster)) == 3
    assert len(transformed("COARSE PREPARTITION ROWCOUNT", cluster)) == 7
    assert len(transformed("COARSE PREPARTITION CONCURRENCY", cluster)) == 3


def test_keyed_and_ordered_parts_match_other_fugue_engines() -> None:
    cluster = InProcess()
    keyed = transformed("PREPARTITION BY key PRESORT row DESC", cluster)
    assert len(cluster.parts) == 3, "tasks"
    assert sorted((row["rows"], row["first"]) for row in keyed) == [(1, 2), (1, 4), (1, 6), (2, 3), (2, 5)]


def test_waiting_for_a_cluster_without_workers_is_bounded() -> None:
    cluster = InProcess(cores=0)
    cluster.begin()
    with pytest.raises(EngineError, match=r"dask had no worker in 0 s: .*CROPLINE_ENGINE__DASK__GRANT_TIMEOUT_S"):
        cluster.check()
    InProcess(cores=1).check()

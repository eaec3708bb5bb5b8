"""Cancelling in Prefect's UI while a batch is cut on a Spark cluster frees the cluster and the batch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.contract.spark_servers import (
    StandaloneCluster,
    descendants,
    eventually,
    python_without_cropline,
    standalone_cluster,
)
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StandaloneCluster]:
    (tmp_path / "cluster").mkdir()
    with standalone_cluster(tmp_path / "cluster", python_without_cropline(tmp_path / "venv")) as started:
        yield started


def crop_processes(cluster: StandaloneCluster) -> list[int]:
    return [
        pid for worker in cluster.workers for pid in descendants(worker.process.pid, "fugue_jobs.pool.crop_process")
    ]


def test_cancelling_the_flow_run_in_prefect_ends_its_spark_job_and_frees_its_batch(
    stack: Stack, cluster: StandaloneCluster
) -> None:
    spark = {
        "CROPLINE_ENGINE__KIND": "spark",
        "CROPLINE_ENGINE__MASTER": cluster.master,
        "CROPLINE_ENGINE__SPARK__PYTHON": str(cluster.python),
        "CROPLINE_ENGINE__SPARK__MAX_EXECUTORS": "2",
        "CROPLINE_FETCH__TIMEOUT_S": "300",
    }
    (photo,) = stack.api.control.advance(photos=1)[0]
    stack.api.control.add_fault("image_slow_drip", seconds=0.5)
    with stack.worker(**spark):
        run = stack.run("poll", cold=True)
        stack.until(lambda: crop_processes(cluster), "a photo is being fetched on the cluster", timeout=400)
        assert stack.works()[photo] == "claimed"
        stack.cancel(run)
        # Prefect's worker may take some seconds to notice; our own part is bounded by test_spark_cluster.py.
        took = eventually("the cluster is free", lambda: cluster.executors() == 0, 60)
        took += eventually("crop processes are gone", lambda: not crop_processes(cluster), 60)
        print(f"free {took:.1f} s after the cancel")
        assert stack.ended(run) == "CANCELLED"
    batch, state, attempt, lease_until = stack.batches()[-1]
    assert (state, attempt) == ("open", 1)
    assert datetime.fromisoformat(lease_until) <= datetime.now(UTC), "its lease is over: anyone may go on"
    stack.api.control.clear_faults()
    with stack.worker():
        assert stack.ended(stack.run("poll")) == "COMPLETED"
    assert stack.batches()[-1][:3] == (batch, "committed", 2)
    assert set(stack.works().values()) == {"done"}

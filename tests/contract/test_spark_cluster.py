"""A real standalone cluster: its executors and workers start, end, are killed and are released."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cropline.core.errors import EngineError
from cropline.pipeline.funnel import EngineUse
from fugue_jobs.engines.run import stop_engines
from tests.contract.held_photos import assert_each_box_once, run
from tests.contract.spark_servers import (
    Clusters,
    StandaloneCluster,
    ask,
    connect_server,
    descendants,
    eventually,
)
from tests.integration.spark_photos import HoldingServer
from tests.ports import free_port

pytestmark = pytest.mark.timeout(600)

# PySpark starts a process's JVM with the first session's conf on its command line, and every later session inherits
# from there what it does not set: also what another file's tests did set.
CONF = {"spark.sql.shuffle.partitions": "2", "spark.ui.enabled": "false", "spark.executor.memory": "1g"}
# A generous limit for a busy machine; the tests assert the promised times separately.
LIMIT_S = 120


@pytest.fixture
def cluster(spark_clusters: Clusters) -> Iterator[StandaloneCluster]:
    """A cluster, which the test may damage."""
    yield spark_clusters.whole()
    stop_engines()


def settings(cluster: StandaloneCluster, executors: int = 2, idle_s: int = 60, **conf: str) -> dict[str, Any]:
    return {
        "kind": "spark",
        "master": cluster.master,
        "partitions": 6,
        "conf": CONF | conf,
        "spark": {"python": str(cluster.python), "max_executors": executors, "idle_s": idle_s},
    }


@pytest.mark.slow
def test_a_burst_takes_executors_from_none_to_two_and_they_go_back_to_none(
    cluster: StandaloneCluster, held_photos: HoldingServer, tmp_path: Path
) -> None:
    ui = free_port()
    engine = settings(cluster, idle_s=2, **{"spark.ui.enabled": "true", "spark.ui.port": str(ui)})
    used: list[EngineUse] = []
    assert cluster.executors() == 0
    with ThreadPoolExecutor(1) as driver:
        names = [f"held-{i}.jpg" for i in range(12)]
        job = driver.submit(run, held_photos, names, tmp_path / "out", engine, on_engine=used.append)
        eventually("two executors work", lambda: cluster.executors() == 2 and held_photos.held >= 2, LIMIT_S)
        held_photos.release.set()
        assert_each_box_once(job.result(LIMIT_S), 12, tmp_path / "out")
    went = eventually("no executors are left", lambda: cluster.executors() == 0, LIMIT_S)
    print(f"the last executor went {went:.1f} s after the batch, idle time is 2 s")
    (application,) = ask(f"http://127.0.0.1:{ui}/api/v1/applications")
    found = ask(f"http://127.0.0.1:{ui}/api/v1/applications/{application['id']}/allexecutors")
    executors = [one for one in found if one["id"] != "driver"]
    assert len(executors) >= 2
    assert not any(one["isActive"] for one in executors)
    spans = used[0].executors
    assert max(sum(came <= moment < went for came, went in spans) for moment, _ in spans) == 2
    assert 0 < used[0].executor_seconds <= 2 * used[0].seconds


@pytest.mark.slow
def test_a_session_that_began_with_one_executor_gives_way_when_a_burst_needs_two(
    cluster: StandaloneCluster, held_photos: HoldingServer, tmp_path: Path
) -> None:
    engine = settings(cluster, executors=0)
    held_photos.release.set()
    assert_each_box_once(run(held_photos, ["held-0.jpg"], tmp_path / "one", engine), 1, tmp_path / "one")
    assert cluster.executors() == 1
    held_photos.release.clear()
    with ThreadPoolExecutor(1) as driver:
        names = [f"held-{i}.jpg" for i in range(6)]
        job = driver.submit(run, held_photos, names, tmp_path / "six", engine, waiting=1_000_000)
        eventually("two executors work", lambda: cluster.executors() == 2 and held_photos.held >= 2, LIMIT_S)
        held_photos.release.set()
        assert_each_box_once(job.result(LIMIT_S), 6, tmp_path / "six")


def test_waiting_for_a_cluster_without_executors_is_bounded(
    cluster: StandaloneCluster, held_photos: HoldingServer, tmp_path: Path
) -> None:
    engine = settings(cluster, executors=1, **{"spark.executor.memory": "900g"})
    engine["spark"]["grant_timeout_s"] = 3
    with pytest.raises(
        EngineError, match="provided no executor in 3 s; one asks for 1 cores and 900g of memory: "
    ) as told:
        run(held_photos, ["free.jpg"], tmp_path / "out", engine)
    assert "CROPLINE_ENGINE__SPARK__GRANT_TIMEOUT_S" in str(told.value)
    assert not held_photos.asked
    eventually("its application is ended", lambda: not cluster.state()["activeapps"], LIMIT_S)
    # The next batch finds a session that works.
    working = settings(cluster, executors=1)
    assert_each_box_once(run(held_photos, ["free.jpg"], tmp_path / "out", working), 1, tmp_path / "out")


class Cancelled(BaseException):
    """What Prefect's engine raises on SIGTERM."""


def cancel(held_photos: HoldingServer, folder: Path, engine: dict[str, Any]) -> None:
    """Run a batch here that gets SIGTERM in its middle. This process lives on: its end is not what ends the job."""

    def stop(*_: object) -> None:
        raise Cancelled

    def send() -> None:
        eventually("a photo is fetched", lambda: held_photos.held >= 1, LIMIT_S)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with ThreadPoolExecutor(1) as other:
            sent = other.submit(send)
            with pytest.raises(Cancelled):
                run(held_photos, [f"held-{i}.jpg" for i in range(12)], folder, engine)
    finally:
        signal.signal(signal.SIGTERM, before)
    sent.result()


def test_cancelling_ends_the_job_on_the_cluster(
    cluster: StandaloneCluster, held_photos: HoldingServer, tmp_path: Path
) -> None:
    cancel(held_photos, tmp_path / "out", settings(cluster, executors=1))
    took = eventually("the cluster is free", lambda: cluster.executors() == 0, 10)
    print(f"free {took:.1f} s after the cancel")
    eventually("crop processes are gone", lambda: not crop_processes(cluster), 10 - took)


def crop_processes(cluster: StandaloneCluster) -> list[int]:
    return [
        pid for worker in cluster.workers for pid in descendants(worker.process.pid, "fugue_jobs.pool.crop_process")
    ]


# Last: the next test would have to start another cluster.
def test_boxes_are_cut_once_when_an_executor_and_then_a_worker_are_killed(
    cluster: StandaloneCluster, held_photos: HoldingServer, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as driver:
        names = [f"{'held' if i % 2 else 'free'}-{i}.jpg" for i in range(12)]
        job = driver.submit(run, held_photos, names, tmp_path / "out", settings(cluster))
        eventually("both executors work", lambda: len(cluster.executor_pids()) == 2 and held_photos.held >= 2, LIMIT_S)
        first = cluster.executor_pids()[0]
        os.kill(first, signal.SIGKILL)
        eventually("another takes its place", lambda: len(set(cluster.executor_pids()) - {first}) == 2, LIMIT_S)
        os.killpg(cluster.workers[1].process.pid, signal.SIGKILL)
        held_photos.release.set()
        assert_each_box_once(job.result(LIMIT_S), 12, tmp_path / "out")


@pytest.mark.slow
def test_cancelling_ends_the_job_on_a_connect_server(
    held_photos: HoldingServer, worker_python: Path, tmp_path: Path
) -> None:
    (tmp_path / "connect").mkdir()
    with connect_server(tmp_path / "connect", worker_python) as url:
        cancel(held_photos, tmp_path / "out", {"kind": "spark-connect", "partitions": 6, "connect": {"url": url}})
        mine = os.getpid()
        took = eventually("crop processes are gone", lambda: not descendants(mine, "fugue_jobs.pool.crop_process"), 10)
        print(f"free {took:.1f} s after the cancel")
        stop_engines()

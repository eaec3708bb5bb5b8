"""A real Dask cluster: a worker is killed in the middle of a batch, and a batch is cancelled."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cropline.core.errors import EngineError
from fugue_jobs.engines.run import stop_engines
from tests.contract.spark_servers import descendants, eventually, python_without, python_without_cropline
from tests.contract.task_servers import dask_cluster
from tests.contract.test_spark_cluster import LIMIT_S, assert_each_box_once, cancel, run
from tests.integration.spark_photos import HoldingServer, holding_server
from tests.photos import drawn, encoded

distributed = pytest.importorskip("distributed", reason="Dask is not installed: make test-engines")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("dask")
    with dask_cluster(folder, python_without_cropline(folder / "venv")) as address:
        yield {"kind": "dask", "partitions": 6, "dask": {"scheduler": address}}
        stop_engines()


@pytest.fixture
def photos() -> Iterator[HoldingServer]:
    with holding_server(encoded(drawn(320, 240))) as server:
        yield server


def test_boxes_are_cut_once_when_a_dask_worker_is_killed(
    engine: dict[str, Any], photos: HoldingServer, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as driver:
        names = [f"{'held' if i % 2 else 'free'}-{i}.jpg" for i in range(12)]
        job = driver.submit(run, photos, names, tmp_path / "out", engine)
        eventually("both its threads work", lambda: photos.held >= 2, LIMIT_S)
        # The worker is a child of its nanny, which starts another.
        (worker,) = descendants(os.getpid(), "spawn_main")
        os.kill(worker, signal.SIGKILL)
        photos.release.set()
        assert_each_box_once(job.result(LIMIT_S), 12, tmp_path / "out")


def test_cancelling_drops_the_parts_that_have_not_begun(
    engine: dict[str, Any], photos: HoldingServer, tmp_path: Path
) -> None:
    cancel(photos, tmp_path / "out", engine)
    with distributed.Client(engine["dask"]["scheduler"], set_as_default=False) as client:
        eventually("its parts are gone", lambda: not client.run_on_scheduler(_TASKS), 10)
        photos.release.set()
        eventually("those under way have ended", lambda: not any(client.run(_EXECUTING).values()), LIMIT_S)
    assert sum(photos.asked.values()) <= 4, "two of six parts were under way, of two photos each"


def test_a_worker_without_pillow_is_named_and_lives_on(photos: HoldingServer, tmp_path: Path) -> None:
    stop_engines()
    (tmp_path / "dask").mkdir()
    python = python_without(tmp_path / "venv", "PIL", "pillow")
    with dask_cluster(tmp_path / "dask", python) as address:
        engine = {"kind": "dask", "partitions": 2, "dask": {"scheduler": address}}
        with pytest.raises(
            EngineError, match=rf"^the Dask scheduler at {address}: worker tcp://\S+ lacks pillow: install"
        ):
            run(photos, ["free.jpg"], tmp_path / "out", engine)
        with distributed.Client(address, set_as_default=False) as client:
            assert len(client.nthreads()) == 1
            assert client.submit(sum, [1, 2]).result(60) == 3
    assert not photos.asked


# Lambdas, because they are sent to processes that do not have this module.
_TASKS = lambda dask_scheduler: len(dask_scheduler.tasks)  # noqa: E731
_EXECUTING = lambda dask_worker: len(dask_worker.state.executing)  # noqa: E731

"""Threads of a process share a cluster's session, and it ends once; the cluster is a fake."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cropline.config.settings import EngineSettings
from cropline.core.errors import CroplineError, EngineError, StaleLease
from cropline.core.schemas import CLAIM, CROPS, STORES
from fugue_jobs.engines import run
from fugue_jobs.engines.manifests import IMAGE_ROWS
from tests.contract import jobs


class Cluster:
    """Counts its calls. Its job runs until ``go`` is set."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.go = threading.Event()

    def check(self) -> None:
        """Pass: there is a worker."""

    def cancel(self) -> None:
        self.calls.append("cancel")

    def stop(self) -> None:
        self.calls.append("stop")

    def executors(self, _since: float) -> tuple[tuple[float, float], ...]:
        return ()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Cluster]]:
    clusters: list[Cluster] = []

    def start(_settings: EngineSettings, _most: int) -> Cluster:
        clusters.append(Cluster())
        return clusters[-1]

    def work(cluster: Cluster, *_: Any) -> pa.Table:
        assert cluster.go.wait(20)
        return CROPS.empty_table()

    monkeypatch.setattr(run, "_opened", start)
    monkeypatch.setattr(run, "_run_on", work)
    yield clusters
    run.stop_engines()


def _run(check: Callable[[], None] = lambda: None, **settings: Any) -> pa.Table:
    kind = EngineSettings.model_validate({"kind": "dask"} | settings)
    nothing = IMAGE_ROWS.empty_table(), CLAIM.empty_table(), STORES.empty_table()
    return run.run_crop_job(*nothing, jobs.job(Path("/nowhere")), kind, check=check)


def _lost() -> None:
    raise StaleLease("another attempt has the batch")


def test_a_lost_lease_ends_the_job_and_its_session_and_is_raised_as_it_is(opened: list[Cluster]) -> None:
    with pytest.raises(StaleLease):
        _run(_lost)
    assert opened[0].calls == ["cancel", "stop"]


def test_threads_share_a_session_and_one_that_fails_ends_it_once(opened: list[Cluster]) -> None:
    under_way = threading.Barrier(2)

    def check() -> None:
        under_way.wait(20)
        _lost()

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(_run, check) for _ in range(2)]
        errors = [run.exception() for run in runs]
    assert all(isinstance(error, CroplineError) for error in errors)
    assert [cluster.calls for cluster in opened] == [["cancel", "stop"]]


def test_a_session_that_a_thread_uses_outlives_another_settings_job(opened: list[Cluster]) -> None:
    with ThreadPoolExecutor(1) as threads:
        began = threading.Event()
        first = threads.submit(_run, began.set)
        assert began.wait(20)
        second = threading.Thread(target=_run, kwargs={"dask": {"grant_timeout_s": 77}})
        second.start()
        while len(opened) < 2:
            opened[0].go.wait(0.01)
        assert opened[0].calls == []
        opened[1].go.set()
        second.join(20)
        opened[0].go.set()
        assert first.result(20).num_rows == 0
    assert opened[0].calls == ["stop"]
    assert opened[1].calls == []


def test_what_else_fails_is_an_engine_error(opened: list[Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> pa.Table:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(run, "_run_on", fail)
    with pytest.raises(EngineError, match="out of memory"):
        _run()
    assert opened[0].calls == ["cancel", "stop"]

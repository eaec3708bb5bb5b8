"""A Dask scheduler that cannot be used is reported in time, and nothing is left behind."""

import signal
import socket
import sys
from pathlib import Path

import pytest

import fugue_jobs
from cropline.config.settings import EngineSettings
from cropline.core.errors import EngineError
from tests.contract.spark_servers import free_port, server_process, wait_for_log

distributed = pytest.importorskip("distributed", reason="Dask is not installed: make test-engines")


def test_a_scheduler_that_accepts_connections_and_stays_silent_is_not_waited_for() -> None:
    from fugue_jobs.engines.dask import DaskCluster

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(
            EngineError, match=f"^the Dask scheduler at {address} accepts connections but does not answer$"
        ):
            DaskCluster(settings(scheduler=address, connect_timeout_s=0.3))


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local cluster starts a process for each core."""
    monkeypatch.setattr("fugue_jobs.engines.dask.usable_cores", lambda: 1)


def test_local_workers_end_when_their_scheduler_is_not_reached() -> None:
    from fugue_jobs.engines.dask import DaskCluster

    before = set(distributed.LocalCluster._instances)
    with pytest.raises(EngineError, match=r"^the Dask scheduler at tcp://127\.0\.0\.1:\d+: Timed out"):
        DaskCluster(settings(connect_timeout_s=1e-9))
    left = set(distributed.LocalCluster._instances) - before
    assert {cluster.status for cluster in left} <= {distributed.Status.closed}


def test_a_local_cluster_serves_this_machine_only_on_a_free_port_and_changes_no_import_path() -> None:
    from fugue_jobs.engines.dask import DaskCluster

    before = list(sys.path), list(fugue_jobs.__path__)
    cluster = DaskCluster(settings())
    try:
        found = {own.getsockname() for own in cluster._local.scheduler.http_server._sockets.values()}
    finally:
        cluster.stop()
    # 8787 is Dask's default port: a second run on this machine would find it taken.
    assert [(host, port == 8787) for host, port in found] == [("127.0.0.1", False)]
    assert (list(sys.path), list(fugue_jobs.__path__)) == before


def test_a_scheduler_that_stops_answering_is_waited_for_no_longer_than_workers_are(tmp_path: Path) -> None:
    from fugue_jobs.engines.dask import DaskCluster

    address, log = f"tcp://127.0.0.1:{free_port()}", tmp_path / "scheduler.log"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"]
    with server_process([*command, "--dashboard-address", "127.0.0.1:0"], tmp_path, log) as scheduler:
        wait_for_log(scheduler, log, "Scheduler at")
        cluster = DaskCluster(settings(scheduler=address, connect_timeout_s=2, grant_timeout_s=1))
        cluster.begin()
        cluster.check()
        scheduler.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(EngineError, match="^dask did not answer in 1 s: check it, or wait longer"):
                cluster.check()
        finally:
            scheduler.send_signal(signal.SIGCONT)
            cluster.stop()


def settings(**dask: object) -> EngineSettings:
    return EngineSettings.model_validate({"kind": "dask", "dask": dask})

"""A Dask scheduler that cannot be used: told in time, with nothing left behind."""

import socket

import pytest

from cropline.errors import EngineError
from cropline.settings import EngineSettings

distributed = pytest.importorskip("distributed", reason="Dask is not installed: make test-engines")


def test_a_scheduler_that_takes_connections_and_says_nothing_is_not_waited_for() -> None:
    from fugue_jobs.dask import DaskCluster

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(
            EngineError, match=f"^the Dask scheduler at {address} takes connections and does not answer$"
        ):
            DaskCluster(settings(scheduler=address, connect_timeout_s=0.3))


def test_workers_of_our_own_end_when_their_scheduler_is_not_reached() -> None:
    from fugue_jobs.dask import DaskCluster

    before = set(distributed.LocalCluster._instances)
    with pytest.raises(EngineError, match=r"^the Dask scheduler at tcp://127\.0\.0\.1:\d+: Timed out"):
        DaskCluster(settings(connect_timeout_s=1e-9))
    left = set(distributed.LocalCluster._instances) - before
    assert {cluster.status for cluster in left} <= {distributed.Status.closed}


def test_a_cluster_of_our_own_serves_this_machine_only_and_on_a_port_of_its_own() -> None:
    from fugue_jobs.dask import DaskCluster

    cluster = DaskCluster(settings())
    try:
        found = {own.getsockname() for own in cluster._local.scheduler.http_server._sockets.values()}
    finally:
        cluster.stop()
    # 8787 is everybody's: a second run on this machine would find it taken.
    assert [(host, port == 8787) for host, port in found] == [("127.0.0.1", False)]


def settings(**dask: object) -> EngineSettings:
    return EngineSettings.model_validate({"kind": "dask", "dask": dask})

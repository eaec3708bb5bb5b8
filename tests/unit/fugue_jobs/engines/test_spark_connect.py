"""Nothing is waited for without an end on a Connect server; servers are silent sockets here."""

import socket
from types import SimpleNamespace

import pytest

from cropline.config.settings import EngineSettings
from cropline.core.errors import EngineError
from fugue_jobs.engines import spark_connect
from fugue_jobs.engines.spark_connect import ConnectCluster, Progress


def test_a_server_that_accepts_connections_and_opens_no_session_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spark_connect, "OPEN_S", 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = EngineSettings.model_validate({"kind": "spark-connect", "connect": {"url": f"sc://{at}"}})
        told = f"^the Spark Connect server at {at} accepts connections but opened no session in 0 s$"
        with pytest.raises(EngineError, match=told):
            ConnectCluster(settings)


def watched(progress: Progress, limit_s: int) -> ConnectCluster:
    cluster = ConnectCluster.__new__(ConnectCluster)
    cluster.where, cluster._progress, cluster._stall_timeout_s = "the server", progress, limit_s
    return cluster


def test_a_batch_that_stands_still_is_ended_with_a_line_about_the_servers_memory() -> None:
    progress = Progress()
    progress(None, 2, "operation", False)
    with pytest.raises(
        EngineError, match=r"^the server: for 0 s no task .* \(2 tasks run\): .*spark\.driver\.memory"
    ) as told:
        watched(progress, 0).check()
    assert "CROPLINE_ENGINE__CONNECT__STALL_TIMEOUT_S" in str(told.value)
    watched(progress, 1_000).check()


def test_only_tasks_that_begin_or_end_are_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(spark_connect, "monotonic", lambda: now)
    progress = Progress()
    stage = SimpleNamespace(stage_id=1, num_completed_tasks=0, done=False, num_bytes_read=0)
    progress([stage], 2, "operation", False)
    now = 5.0
    progress([SimpleNamespace(**vars(stage) | {"num_bytes_read": 9})], 2, "operation", False)
    assert progress.still_s() == 5
    progress([SimpleNamespace(**vars(stage) | {"num_completed_tasks": 1})], 2, "operation", False)
    assert progress.still_s() == 0

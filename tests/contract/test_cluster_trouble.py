"""Cluster trouble: a session that is lost between batches or within one, on every engine where that can happen.

Each test starts servers, so a whole story is one test. With the marker slow: those that restart a JVM server.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cropline.core.errors import EngineError
from fugue_jobs.engines import sessions
from fugue_jobs.engines.run import stop_engines
from tests.contract.held_photos import assert_each_box_once, run
from tests.contract.spark_servers import Restartable, connect_server, eventually, standalone_cluster
from tests.contract.task_servers import dask_cluster, ray_cluster
from tests.integration.spark_photos import HoldingServer

pytestmark = pytest.mark.timeout(900)

LIMIT_S = 240


@dataclass
class Trouble:
    """An engine, what happens to its cluster, and what is told of it."""

    engine: dict[str, Any]
    happens: Callable[[], None]
    told: str
    gone: Callable[[], None] | None = None
    gone_told: str = ""
    servers: ExitStack = field(default_factory=ExitStack)


def driver_jvm() -> Trouble:
    def kill() -> None:
        from pyspark import SparkContext

        os.kill(SparkContext._gateway.proc.pid, signal.SIGKILL)

    engine = {"kind": "spark", "conf": {"spark.sql.shuffle.partitions": "2", "spark.driver.memory": "700m"}}
    told = r"Spark on local\[2\]: the driver's JVM was killed \(SIGKILL\).*spark\.driver\.memory="
    return Trouble(engine, kill, told)


def driver_heap() -> Trouble:
    def fill() -> None:
        from py4j.protocol import Py4JError
        from pyspark import SparkContext

        gateway = SparkContext._gateway
        with suppress(Py4JError, OSError):  # the answer never comes
            gateway.new_array(gateway.jvm.byte, 2_000_000_000)

    engine = {"kind": "spark", "conf": {"spark.sql.shuffle.partitions": "2", "spark.driver.memory": "700m"}}
    told = r"Spark on local\[2\]: the driver's JVM ran out of memory: give it more than spark\.driver\.memory=700m"
    return Trouble(engine, fill, told)


def expired_connect_session(url: str) -> Trouble:
    def expire() -> None:
        # What the server does after a quiet hour, and an administrator at any time.
        from pyspark.sql.connect.session import SparkSession

        kept = sessions._keeper.kept
        assert kept is not None
        mine = kept.cluster.session  # type: ignore[attr-defined]
        other = SparkSession.builder.remote(f"{url}/;session_id={mine.session_id}").create()
        other.client.release_session()
        other.client.close()

    told = rf"the Spark Connect server at {url.removeprefix('sc://')} closed the session: it expired"
    return Trouble({"kind": "spark-connect", "connect": {"url": url}}, expire, told)


def restarted_dask(folder: Path, python: Path) -> Trouble:
    server = Restartable(lambda port: dask_cluster(folder, python, port))
    engine = {"kind": "dask", "dask": {"scheduler": server.address, "connect_timeout_s": 5}}
    where = f"the Dask scheduler at {server.address}"
    trouble = Trouble(engine, server.restart, rf"{where} (was restarted|is gone)", server.stop)
    at = server.address.removeprefix("tcp://")
    trouble.gone_told = rf"^no Dask scheduler answers at {at}, also after 3 s \(.*\)\. .* {where} is gone"
    trouble.servers.callback(server.stop)
    return trouble


def restarted_ray(folder: Path, python: Path) -> Trouble:
    server = Restartable(lambda port: ray_cluster(folder, python, port))
    where = f"the Ray cluster at {server.address}"
    engine = {"kind": "ray", "ray": {"address": server.address}}
    trouble = Trouble(engine, server.restart, rf"{where} (was restarted|is gone)", server.stop)
    trouble.gone_told = rf"^no Ray cluster answers at {server.address}, also after 3 s \(.*\)\. .* {where} is gone"
    trouble.servers.callback(server.stop)
    return trouble


def restarted_connect(folder: Path, python: Path) -> Trouble:
    server = Restartable(lambda port: connect_server(folder, python, port=port))
    at = server.address.removeprefix("sc://")
    # A server that starts accepts connections for a while before it answers.
    told = rf"(the Spark Connect server at {at} (was restarted|did not answer)|no Spark Connect server answers at {at})"
    engine = {"kind": "spark-connect", "connect": {"url": server.address}}
    gone_told = rf"^no Spark Connect server answers at {at}, also after 3 s \(.*\)\. This was the second try"
    trouble = Trouble(engine, server.restart, told, server.stop, gone_told)
    trouble.servers.callback(server.stop)
    return trouble


def restarted_master(folder: Path, python: Path) -> Trouble:
    servers = ExitStack()
    cluster = servers.enter_context(standalone_cluster(folder, python, workers=1))
    engine = {
        "kind": "spark",
        "master": cluster.master,
        "conf": {"spark.sql.shuffle.partitions": "2"},
        "spark": {"python": str(python), "max_executors": 1},
    }
    told = rf"Spark on {cluster.master}: the master (was restarted: it does not know the application|is gone)"
    return Trouble(engine, cluster.restart_master, told, servers=servers)


SLOW = pytest.mark.slow


@pytest.fixture(
    params=[
        pytest.param("driver-jvm", marks=SLOW),
        pytest.param("driver-heap", marks=SLOW),
        "connect-expired",
        pytest.param("dask", marks=SLOW),
        pytest.param("ray", marks=SLOW),
        pytest.param("connect-restarted", marks=SLOW),
        pytest.param("spark-cluster", marks=SLOW),
    ]
)
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trouble]:
    name = request.param
    stop_engines()
    if name == "driver-jvm":
        made = driver_jvm()
    elif name == "driver-heap":
        made = driver_heap()
    elif name == "connect-expired":
        made = expired_connect_session(request.getfixturevalue("spark_connect_url"))
    else:
        package = {"dask": "distributed", "ray": "ray"}.get(name)
        if package is not None:
            pytest.importorskip(package, reason=f"{name} is not installed: make test-engines")
        python = request.getfixturevalue("worker_python")
        start = {
            "dask": restarted_dask,
            "ray": restarted_ray,
            "connect-restarted": restarted_connect,
            "spark-cluster": restarted_master,
        }
        (tmp_path / "servers").mkdir()
        made = start[name](tmp_path / "servers", python)
    with made.servers:
        yield made
        stop_engines()


def test_a_lost_session_is_replaced_between_batches_and_within_one(
    trouble: Trouble,
    held_photos: HoldingServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = trouble.engine | {"partitions": 2}
    free, held = ["a.jpg", "b.jpg"], ["held-a.jpg", "held-b.jpg"]
    assert_each_box_once(run(held_photos, free, tmp_path / "first", engine), 2, tmp_path / "first")
    assert not caplog.messages
    trouble.happens()
    assert_each_box_once(run(held_photos, free, tmp_path / "second", engine), 2, tmp_path / "second")
    (lost,) = [text for text in caplog.messages if "continues in a new session" in text]
    assert re.match(trouble.told, lost), lost
    caplog.clear()
    with ThreadPoolExecutor(1) as driver:
        job = driver.submit(run, held_photos, held, tmp_path / "third", engine)
        eventually("a photo is fetched", lambda: held_photos.held >= 1 or job.done(), LIMIT_S)
        trouble.happens()
        held_photos.release.set()
        assert_each_box_once(job.result(LIMIT_S), 2, tmp_path / "third")
    (lost,) = [text for text in caplog.messages if "continues in a new session" in text]
    assert re.match(trouble.told, lost), lost
    if trouble.gone is not None:
        trouble.gone()
        monkeypatch.setattr(sessions, "_grant_time", lambda _: (3, "GRANT_TIMEOUT_S"))
        with pytest.raises(EngineError, match=trouble.gone_told):
            run(held_photos, free, tmp_path / "fourth", engine)

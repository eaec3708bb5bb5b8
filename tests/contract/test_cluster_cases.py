"""What goes wrong on a cluster that lives: memory, one of its workers, its host, its other user. Each row is accounted for.

All cases share one cluster: two workers of two cores. The second one sees a disk read-only and a host's other address.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings, FetchSettings
from cropline.core.errors import EngineError
from fugue_jobs.engines.run import run_crop_job, stop_engines
from tests.contract import jobs
from tests.contract.spark_servers import StandaloneCluster, descendants, eventually, standalone_cluster
from tests.integration.spark_photos import HoldingServer, holding_server
from tests.photos import drawn, encoded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

BOXES = [jobs.box("a", 0.1, 0.2, 0.5, 0.6), jobs.box("b", 0, 0, 1, 1)]
PROFILES = {"png": Profile(format="png")}
HOST = "photos.shelf.example"
LIMIT_S = 600
# A mount namespace: what it mounts, only the worker sees.
OTHER_WORLD = """
mount --bind {hosts} /etc/hosts
mount --bind {disk} {disk} && mount -o remount,ro,bind {disk}
exec "$@"
"""


def may_mount() -> bool:
    return shutil.which("unshare") is not None and not subprocess.run(["unshare", "-m", "true"], check=False).returncode


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the second worker cannot write."""
    return tmp_path_factory.mktemp("disk")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, worker_python: Path, disk: Path) -> Iterator[StandaloneCluster]:
    folder = tmp_path_factory.mktemp("cluster")
    through = {}
    if may_mount():
        usual = Path("/etc/hosts").read_text()
        for number, address in enumerate(("127.0.0.1", "127.0.0.9")):
            hosts = folder / f"hosts-{number}"
            hosts.write_text(f"{usual}\n{address} {HOST}\n")
            script = OTHER_WORLD.format(hosts=hosts, disk=disk if number else folder / "unused")
            through[number] = ["unshare", "-m", "sh", "-c", script, "sh"]
        (folder / "unused").mkdir()
    with standalone_cluster(folder, worker_python, cores=2, through=through) as started:
        yield started
        stop_engines()


@pytest.fixture
def two_worlds() -> None:
    if not may_mount():
        pytest.skip("mount namespaces need the rights of root")


@pytest.fixture
def photos() -> Iterator[HoldingServer]:
    with holding_server(encoded(drawn(320, 240))) as server:
        yield server


def engine(cluster: StandaloneCluster, *, partitions: int = 8, spark: dict[str, Any] | None = None, **conf: str) -> Any:
    """Return settings for two executors, which both run before the first task begins."""
    both = {
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.scheduler.maxRegisteredResourcesWaitingTime": "120s",
        "spark.executor.memory": "600m",
        "spark.sql.shuffle.partitions": "2",
    }
    chosen = {"python": str(cluster.python), "max_executors": 2, "autoscale": False} | (spark or {})
    return {
        "kind": "spark",
        "master": cluster.master,
        "partitions": partitions,
        "conf": both | {name.replace("_", "."): value for name, value in conf.items()},
        "spark": chosen,
    }


def run(rows: list[dict[str, Any]], folder: Path, settings: dict[str, Any], **fetch: Any) -> pa.Table:
    return run_crop_job(
        jobs.images(rows),
        jobs.claims(rows, PROFILES),
        jobs.stores(),
        jobs.job(
            folder,
            processes=0,
            fetch=FetchSettings(allow_loopback=True, timeout_s=500, **fetch).options,
            pictures=PictureLimits(decode_timeout_s=900).options,
        ),
        EngineSettings.model_validate(settings),
    )


def named(photos: HoldingServer, names: list[str], host: str = "127.0.0.1") -> list[dict[str, Any]]:
    urls = [photos.url(name).replace("127.0.0.1", host) for name in names]
    return [jobs.image(number, url, BOXES) for number, url in enumerate(urls)]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def assert_accounted(crops: pa.Table, images: int, folder: Path) -> Counter[str | None]:
    """Assert one row per box, and a file per written row. Return the reasons."""
    rows = crops.to_pylist()
    assert [(row["manifest_row"], row["box_index"]) for row in rows] == [(i, b) for i in range(images) for b in (0, 1)]
    assert files(folder) == {row["key"] for row in rows if row["status"] == "written"}
    return Counter(row["reason"] for row in rows)


def test_an_executor_of_two_cores_runs_two_parts_at_once(
    cluster: StandaloneCluster, photos: HoldingServer, tmp_path: Path
) -> None:
    stop_engines()
    rows = named(photos, [f"held-{number}" for number in range(16)])
    with ThreadPoolExecutor(1) as driver:
        job = driver.submit(run, rows, tmp_path, engine(cluster, spark={"executor_cores": 2}))
        eventually("four photos are fetched at once", lambda: photos.held >= 4 or job.done(), LIMIT_S)
        assert len(cluster.executor_pids()) == 2
        photos.release.set()
        assert assert_accounted(job.result(LIMIT_S), 16, tmp_path) == {None: 32}


class BanningServer(HoldingServer):
    """A photo server that refuses for good once it had more than ``limit`` connections at a time."""

    limit, open, most, banned = 4, 0, 0, False


@contextmanager
def banning_server(photo: bytes, work_s: float) -> Iterator[BanningServer]:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with lock:
                served.open += 1
                served.most = max(served.most, served.open)
                served.banned |= served.open > served.limit
            try:
                super().handle()
            finally:
                with lock:
                    served.open -= 1

        def do_GET(self) -> None:
            threading.Event().wait(work_s)
            served.asked[self.path.lstrip("/")] += 1
            self.send_response(403 if served.banned else 200)
            body = b"" if served.banned else photo
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    served = BanningServer(server.server_port, photo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_host_that_bans_never_sees_more_connections_than_its_limit(
    cluster: StandaloneCluster, tmp_path: Path
) -> None:
    stop_engines()
    with banning_server(encoded(drawn(320, 240)), 0.05) as server:
        settings = engine(cluster, partitions=20, spark={"executor_cores": 2}, spark_speculation="false")
        crops = run(named(server, [f"{n}.jpg" for n in range(60)]), tmp_path, settings, connections_per_host=4)
        assert assert_accounted(crops, 60, tmp_path) == {None: 120}
        print(f"most connections at a time: {server.most}")
        assert 2 <= server.most <= 4
        assert not server.banned


@pytest.mark.usefixtures("two_worlds")
def test_photos_of_a_host_that_one_worker_does_not_reach_are_tried_again_later(
    cluster: StandaloneCluster, photos: HoldingServer, tmp_path: Path
) -> None:
    stop_engines()
    rows = named(photos, [f"{number}.jpg" for number in range(32)], HOST)
    crops = run(rows, tmp_path, engine(cluster))
    reasons = assert_accounted(crops, 32, tmp_path)
    # A transient reason: the next run tries them again, perhaps on the other worker.
    assert set(reasons) == {None, "connection"}
    details = {row["detail"] for row in crops.to_pylist() if row["reason"]}
    assert details == {"no connection (ConnectionRefusedError)"}


@pytest.mark.usefixtures("two_worlds")
def test_crops_that_one_worker_cannot_store_are_tried_again_later(
    cluster: StandaloneCluster, photos: HoldingServer, disk: Path, tmp_path: Path
) -> None:
    stop_engines()
    rows = named(photos, [f"{number}.jpg" for number in range(32)])
    crops = run(rows, disk / "out", engine(cluster))
    assert set(assert_accounted(crops, 32, disk / "out")) == {None, "storage"}
    print({row["detail"] for row in crops.to_pylist() if row["reason"]})
    # The next try, where the store can be written.
    again = run(rows, disk / "out", {"kind": "native"})
    assert assert_accounted(again, 32, disk / "out") == {None: 64}


@contextmanager
def memory_killer(cluster: StandaloneCluster, limit_mb: int) -> Iterator[list[int]]:
    """Kill an executor as a container does: when one of its crop processes takes more than this. Yield its kills."""
    killed: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.3):
            for executor in cluster.executor_pids():
                below = descendants(executor, "fugue_jobs.pool.crop_process")
                if any(_rss_mb(pid) > limit_mb for pid in below):
                    for pid in (*below, executor):
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    killed.append(executor)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def _rss_mb(pid: int) -> float:
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return 0


def test_a_photo_that_takes_too_much_memory_again_and_again_ends_the_batch_and_the_others_live_on(
    cluster: StandaloneCluster, photos: HoldingServer, tmp_path: Path
) -> None:
    stop_engines()
    sink = io.BytesIO()
    Image.effect_noise((500, 500), 50).convert("RGB").resize((8_640, 5_760)).save(sink, "JPEG", progressive=True)
    boxes = [jobs.box(str(n), 0.1 + n / 2_000, 0.1, 0.12 + n / 2_000, 0.13) for n in range(1_000)]
    with holding_server(sink.getvalue()) as large:
        rows = [jobs.image(0, large.url("large.jpg"), boxes), *named(photos, [f"{n}.jpg" for n in range(8)])[1:]]
        settings = engine(cluster, partitions=4)
        with memory_killer(cluster, 220) as killed, pytest.raises(EngineError) as told:
            run(rows, tmp_path, settings)
        print(f"killed {len(killed)} times: {told.value}")
        assert len(killed) >= 4, "spark.task.maxFailures"
        # Whether a part or the exchange that it lost fails first is a matter of time.
        assert "137" in str(told.value)
        assert "spark.executor.memory, spark.executor.memoryOverhead in CROPLINE_ENGINE__CONF" in str(told.value)
        # In the same process: with more memory the batch ends well, and nothing is there twice.
        crops = run(rows, tmp_path, settings).to_pylist()
    assert len(crops) == 1_000 + 7 * 2
    assert {row["status"] for row in crops} == {"written"}
    assert files(tmp_path) == {row["key"] for row in crops}


OTHER = """
    import sys
    from pathlib import Path
    from tests.contract.test_cluster_cases import named, run
    from tests.integration.spark_photos import HoldingServer

    rows = named(HoldingServer({port}, b""), {names})
    print(run(rows, Path("{folder}"), {settings})["status"].to_pylist(), flush=True)
"""


def test_two_processes_on_one_cluster_both_end_their_batches(
    cluster: StandaloneCluster, photos: HoldingServer, tmp_path: Path
) -> None:
    stop_engines()
    # The first one takes both executors; it gives them back when it has no work.
    settings = engine(cluster, spark={"autoscale": True, "idle_s": 2})
    children = []
    for name in ("one", "two"):
        names = [f"held-{name}-{number}" for number in range(8)]
        given = {"port": photos.port, "names": names, "folder": tmp_path / name, "settings": settings}
        code = textwrap.dedent(OTHER.format(**given))
        children.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
        eventually("it works", lambda: photos.held >= 1, LIMIT_S)
    photos.release.set()
    try:
        for child, name in zip(children, ("one", "two"), strict=True):
            told, _ = child.communicate(timeout=LIMIT_S)
            assert told == f"{['written'] * 16}\n"
            assert len(files(tmp_path / name)) == 16
    finally:
        for child in children:
            child.kill()
            child.wait()

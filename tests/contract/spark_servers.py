"""Real Spark servers from pip's pyspark: a standalone cluster, a Connect server, and workers without cropline."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyspark

from tests.ports import free_port

SPARK_HOME = Path(pyspark.__file__).parent
START_S = 120
_WHAT_IS_THERE = """
import importlib.util
for name in ("fugue", "pyarrow", "PIL", "obstore", "cropline", "fugue_jobs"):
    if importlib.util.find_spec(name):
        print(name)
"""


def python_without_cropline(folder: Path) -> Path:
    """Return an interpreter that has our third-party wheels and none of our code, after checking that.

    The virtual environment contains one path only. Python reads no .pth files behind such a path, and an
    editable install is one: ``import cropline`` fails there unless cropline is shipped.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    own = folder / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    # The wheel's PySpark, which is compiled: without the second line, workers compile the one of Spark's zip at each start.
    compiled = "import sys; sys.path[:] = [entry for entry in sys.path if not entry.endswith('pyspark.zip')]"
    (own / "wheels.pth").write_text(f"{sysconfig.get_path('purelib')}\n{compiled}\n")
    tried = subprocess.run(
        [python, "-c", _WHAT_IS_THERE], cwd=folder, env=plain_environment(), capture_output=True, text=True, check=False
    )
    assert tried.stdout.split() == ["fugue", "pyarrow", "PIL", "obstore"], tried.stdout + tried.stderr
    return python


def python_without(folder: Path, *prefixes: str) -> Path:
    """Return an interpreter with our wheels but those whose files begin with a prefix, and none of our code."""
    venv.create(folder, symlinks=True, with_pip=False)
    own = folder / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.endswith(".pth") and not entry.name.startswith(prefixes):
            (own / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def plain_environment(**more: str) -> dict[str, str]:
    """Return this environment without the variables that lead a child back to our source."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("CROPLINE_")}
    return kept | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_NO_DAEMONIZE": "1"} | more


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def eventually(what: str, condition: Callable[[], bool], limit_s: float) -> float:
    """Poll until the condition holds and return the seconds taken; the test fails after limit_s."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < limit_s, f"{what}: not within {limit_s:g} s"
        time.sleep(0.1)
    return time.monotonic() - began


@contextmanager
def server_process(
    command: list[str], folder: Path, log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command, cwd=folder, env=plain_environment(**environment), stdout=out, stderr=out, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            # The process group: also a worker's executors and their Python workers.
            # Not if kill_server() waited for its end: its id may be another process group's by now.
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


class Restartable:
    """A server on one port."""

    def __init__(self, start: Callable[[int], AbstractContextManager[str]]) -> None:
        self._port, self._start = free_port(), start
        self._running = ExitStack()
        self.address: str = self._running.enter_context(start(self._port))

    def restart(self) -> None:
        self.stop()
        self._running.enter_context(self._start(self._port))

    def stop(self) -> None:
        self._running.close()
        eventually("its port is free", self._is_free, 60)

    def _is_free(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) != 0


def kill_server(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(START_S)


def wait_for_log(process: subprocess.Popen[bytes], log: Path, pattern: str) -> re.Match[str]:
    end = time.monotonic() + START_S
    while True:
        found = re.search(pattern, log.read_text(errors="replace"))
        if found:
            return found
        running = process.poll() is None and time.monotonic() < end
        assert running, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)


def spark_class(name: str, *arguments: str) -> list[str]:
    """Return the command of a class of Spark. bin/spark-class would start a JVM that only prints a command like it."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    return [java, "-cp", str(SPARK_HOME / "jars" / "*"), "-Xmx1g", name, *arguments]


def spark_home() -> dict[str, str]:
    """Return the environment that bin/spark-class gives: a worker starts its executors by it."""
    (core,) = (SPARK_HOME / "jars").glob("spark-core_*.jar")
    return {"SPARK_HOME": str(SPARK_HOME), "SPARK_SCALA_VERSION": core.name.split("_")[1].split("-")[0]}


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    folder: Path


@dataclass
class StandaloneCluster:
    """One master, one-core workers. ``python`` is the workers' interpreter, which has no cropline."""

    master: str
    web: str
    python: Path
    workers: list[Worker] = field(default_factory=list)
    restart_master: Callable[[], None] = lambda: None

    def state(self) -> Any:
        """Return the state that the master reports."""
        return ask(f"{self.web}/json/")

    def executors(self) -> int:
        """Return the number of executors that hold a core now, by the master's count."""
        return sum(int(worker["coresused"]) for worker in self.state()["workers"] if worker["state"] == "ALIVE")

    def alive_workers(self) -> int:
        return sum(worker["state"] == "ALIVE" for worker in self.state()["workers"])

    def executor_pids(self) -> list[int]:
        """Return the pids of our workers' executors, found by their command lines."""
        return [
            pid for worker in self.workers for pid in descendants(worker.process.pid, "CoarseGrainedExecutorBackend")
        ]


def descendants(ancestor: int, wanted: str) -> list[int]:
    """Return the pids below ``ancestor`` whose command line contains ``wanted``."""
    parents: dict[int, int] = {}
    lines: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                lines[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (OSError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    found = []
    for pid, line in lines.items():
        above = pid
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor and pid != ancestor and wanted in line:
            found.append(pid)
    return sorted(found)


@contextmanager
def standalone_cluster(
    folder: Path, python: Path, workers: int = 2, cores: int = 1, through: Mapping[int, list[str]] | None = None
) -> Iterator[StandaloneCluster]:
    """Start a master and its workers, and wait until they are registered.

    cores: of each worker. through: a command, by number of a worker, that runs the rest of its command line.
    """
    with ExitStack() as stack:
        port, web = free_port(), free_port()
        arguments = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", str(web)]
        command = spark_class("org.apache.spark.deploy.master.Master", *arguments)
        masters: list[subprocess.Popen[bytes]] = []

        def start_master() -> None:
            log = folder / f"master-{len(masters)}.log"
            masters.append(stack.enter_context(server_process(command, folder, log, **spark_home())))
            wait_for_log(masters[-1], log, "I have been elected leader")

        def restart_master() -> None:
            kill_server(masters[-1])
            start_master()
            eventually("workers register again", lambda: cluster.alive_workers() == len(cluster.workers), START_S)

        start_master()
        cluster = StandaloneCluster(
            f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{web}", python, restart_master=restart_master
        )
        for number in range(workers):
            cluster.workers.append(
                stack.enter_context(_worker(folder, cluster.master, number, cores, (through or {}).get(number, [])))
            )
        eventually("workers register", lambda: cluster.alive_workers() == workers, START_S)
        yield cluster


class Clusters:
    """One cluster for many tests; a new one after a test has damaged it."""

    def __init__(self, folder: Path, python: Path) -> None:
        self._folder, self._python, self._started = folder, python, 0
        self._running = ExitStack()
        self._cluster: StandaloneCluster | None = None

    def whole(self) -> StandaloneCluster:
        """Return a cluster whose workers all run and that has nothing to do."""
        if self._cluster is None or any(worker.process.poll() is not None for worker in self._cluster.workers):
            self.close()
            self._started += 1
            folder = self._folder / str(self._started)
            folder.mkdir()
            self._cluster = self._running.enter_context(standalone_cluster(folder, self._python))
        cluster = self._cluster
        eventually("it has nothing to do", lambda: not cluster.state()["activeapps"], START_S)
        return cluster

    def close(self) -> None:
        self._running.close()


@contextmanager
def _worker(folder: Path, master: str, number: int, cores: int, through: list[str]) -> Iterator[Worker]:
    work = folder / f"worker-{number}"
    work.mkdir()
    arguments = ["--cores", str(cores), "--memory", "1g", "--host", "127.0.0.1", "--webui-port", "0"]
    arguments += ["--work-dir", str(work)]
    command = [*through, *spark_class("org.apache.spark.deploy.worker.Worker", *arguments, master)]
    with server_process(command, folder, folder / f"worker-{number}.log", **spark_home()) as process:
        yield Worker(process, work)


@contextmanager
def connect_server(folder: Path, python: Path, master: str = "local[2]", port: int = 0, **more: str) -> Iterator[str]:
    """Start a Connect server, by default on a free port, and yield its sc:// address. Its workers run ``python``.

    more: settings of Spark, with _ for each dot.
    """
    port, log = port or free_port(), folder / "connect.log"
    conf = {
        "spark.connect.grpc.binding.port": str(port),
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    } | {name.replace("_", "."): value for name, value in more.items()}
    options = [part for name, value in conf.items() for part in ("--conf", f"{name}={value}")]
    name = "org.apache.spark.sql.connect.service.SparkConnectServer"
    command = [
        str(SPARK_HOME / "bin" / "spark-submit"),
        "--class",
        name,
        "--master",
        master,
        *options,
        "spark-internal",
    ]
    with server_process(command, folder, log, PYSPARK_PYTHON=str(python)) as process:
        wait_for_log(process, log, f"Spark Connect server started at: .*:{port}")
        yield f"sc://127.0.0.1:{port}"

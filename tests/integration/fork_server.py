"""Runs in separate processes that skip the imports, which took most of a killed run's time.

One server process has imported what a run imports and has done nothing else. It forks for each run, and the
fork runs the given code as ``python -c`` would: with the given environment, in a new session, until the
interpreter exits. A kill hits a real process with real crop processes, and its exit status is reported.

Tests that judge the imports themselves (test_idle_poll.py), or what a user types, start a new Python instead.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Flows, and modules that they and their steps import lazily; Fugue finds its engines as plugins.
MODULES = (
    "flows.backfill", "flows.forget", "flows.maintain", "flows.poll", "flows.process", "flows.replay",
    "cropline.catalogue", "cropline.erasure", "cropline.reports.backlog", "cropline.state", "cropline.maintenance",
    "expectations.catalogue", "expectations.catalogue_columns", "expectations.columns", "expectations.data_docs", "expectations.docs_page", "drift.detect",
    "expectations.boxes", "expectations.gx", "drift.near_duplicates", "expectations.validate",
    "fugue_jobs.crop_images", "fugue_jobs.engines.run", "fugue_jobs.engines.manifests", "fugue_jobs.engines.plan", "fugue_jobs.engines.script",
    "prefect.flow_engine", "prefect.task_engine", "prefect.runtime", "anyio._backends._asyncio", "fastapi",
    "dlt.sources.helpers.requests", "dlt.sources.helpers.rest_client", "boto3", "deltalake", "duckdb", "obstore.auth.boto3",
    "fugue.plugins", "fugue.sql.api", "fugue_sql_antlr", "fugue.test",
    "fugue_dask.registry", "fugue_duckdb.registry", "fugue_spark.registry", "sqlglot.dialects.spark",
    "great_expectations", "openlineage.client", "pandas", "psycopg", "pyarrow.dataset", "pyarrow.parquet",
    "PIL.ImageDraw", "PIL.ImageFont", "PIL.JpegImagePlugin", "PIL.PngImagePlugin",
)  # fmt: skip
# jemalloc, in pyarrow and in deltalake, stops its thread before a fork and starts it after.
_HARMLESS_THREADS = frozenset(["jemalloc_bg_thd"])


class ForkedRun:
    """One run: ``pid`` leads its process group. Its output goes to files, so it never blocks on a full pipe."""

    def __init__(self, news: socket.socket, said: tuple[Path, Path]) -> None:
        self._news, self._said = news, said
        news.settimeout(120)  # the server may still be importing
        self.pid = int(news.recv(100))
        self.returncode: int | None = None

    def wait(self, timeout: float = 120) -> int:
        """Return its exit status, negative for a signal. Raises subprocess.TimeoutExpired and leaves it running."""
        if self.returncode is None:
            self._news.settimeout(timeout)
            try:
                self.returncode = int(self._news.recv(100))
            except TimeoutError:
                raise subprocess.TimeoutExpired(f"run {self.pid}", timeout) from None
        return self.returncode

    def send_signal(self, sign: int, *, group: bool = False) -> None:
        """Send to the run, or to its crop processes as well. Does nothing once the run was waited for."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, sign)

    @property
    def stdout(self) -> str:
        return self._said[0].read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._said[1].read_text(errors="replace")

    def close(self) -> None:
        """End the run and everything it started, if it still runs."""
        if self.returncode is None:
            self.send_signal(signal.SIGKILL, group=True)
        self._news.close()


class ForkServer:
    """The process that forks, and its runs. Use fork_server()."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[ForkedRun] = []
        self._control, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, code: str, environment: Mapping[str, str]) -> ForkedRun:
        """Run Python code with this environment. The first call starts the server, which takes as long as imports do."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.fork_server", str(self._theirs.fileno())],
                pass_fds=[self._theirs.fileno()],
                cwd=ROOT,
                # OpenBLAS would start threads on import, and a process that forks must have none.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )
            self._theirs.close()
        said = tuple(self._folder / f"{len(self._runs)}.{name}" for name in ("out", "err"))
        news, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, said[0].open("wb") as out, said[1].open("wb") as err:
            request = json.dumps({"code": code, "environment": dict(environment)}).encode()
            socket.send_fds(self._control, [request], [theirs.fileno(), out.fileno(), err.fileno()])
        self._runs.append(ForkedRun(news, said))
        return self._runs[-1]

    def close(self) -> None:
        for run in self._runs:
            run.close()
        self._control.close()
        self._theirs.close()
        if self._process is not None:
            self._process.wait(timeout=60)


@contextmanager
def fork_server() -> Iterator[ForkServer]:
    with tempfile.TemporaryDirectory() as folder:
        server = ForkServer(Path(folder))
        try:
            yield server
        finally:
            server.close()


def _next_run(control: socket.socket) -> str:
    """Fork for each request. Returns the run's code in the fork of a run; never returns in the server."""
    while True:
        request, fds, _, _ = socket.recv_fds(control, 1 << 20, 3)
        if not request:
            os._exit(0)  # skips the teardown messages of imported modules that were never used
        threads = [(thread / "comm").read_text().strip() for thread in Path("/proc/self/task").iterdir()]
        threads.remove("python")
        assert threading.active_count() == 1
        assert set(threads) <= _HARMLESS_THREADS, threads
        if os.fork() == 0:
            control.close()
            _be_kept(fds[0])
            return _enter(json.loads(request), *fds)
        for fd in fds:
            os.close(fd)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _be_kept(news: int) -> None:
    """Fork once more: the parent waits for the run and reports its exit status; the child is the run."""
    os.setsid()
    run = os.fork()
    if run:
        os.write(news, str(run).encode())
        _, status = os.waitpid(run, 0)
        with suppress(BrokenPipeError):
            os.write(news, str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)


def _enter(request: dict[str, Any], news: int, out: int, err: int) -> str:
    """Set up what a new Python has: a session, an environment and streams."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for fd in (news, out, err):
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["-c"]
    tempfile.tempdir = None
    # Prefect has read the server's environment.
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    refresh_global_settings_context()
    setup_logging()
    return str(request["code"])


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()
    # At module level, so that it ends as a script does: a traceback, an exit status, the exit handlers.
    exec(compile(_next_run(socket.socket(fileno=int(sys.argv[1]))), "<string>", "exec"), {"__name__": "__main__"})

"""Runs in separate processes that skip the imports, which took most of a killed run's time.

One server process has imported what a run imports and has done nothing else. It forks for each run, and the
fork runs the given code as ``python -c`` would: with the given environment, in a new session, until the
interpreter exits. A kill hits a real process with real crop processes, and its exit status is reported.

Test processes that name the same socket share one server: the first to need it starts it, and it ends when the last
one has gone.

Tests that judge the imports themselves (test_idle_poll.py), or what a user types, start a new Python instead.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import selectors
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
# Flows, and modules that they and their steps import lazily; Fugue finds its engines as plugins. Prefect's server.
MODULES = (
    "flows.backfill", "flows.forget", "flows.maintain", "flows.poll", "flows.process", "flows.replay",
    "cropline.catalogue", "cropline.erasure", "cropline.reports.backlog", "cropline.state", "cropline.maintenance",
    "expectations.catalogue", "expectations.catalogue_columns", "expectations.columns", "expectations.data_docs", "expectations.docs_page", "drift.detect",
    "expectations.boxes", "expectations.gx", "drift.near_duplicates", "expectations.validate",
    "fugue_jobs.crop_images", "fugue_jobs.engines.run", "fugue_jobs.engines.manifests", "fugue_jobs.engines.plan", "fugue_jobs.engines.script",
    "prefect.cli._app", "prefect.server.api.server", "alembic.command", "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto",
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
        news.settimeout(240)  # the server may still be importing
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

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0.001)
        return None

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
    """A connection to the process that forks, and the runs that it asked for. Use fork_server()."""

    def __init__(self, folder: Path, address: Path) -> None:
        self._folder, self._address = folder, address
        self._runs: list[ForkedRun] = []
        self._control: socket.socket | None = None

    def start(self, code: str, environment: Mapping[str, str], log: Path | None = None) -> ForkedRun:
        """Run Python code with this environment. The first call of all starts the server, which takes as long as imports do.

        log: the file that gets what the run says, instead of two that are deleted with this server.
        """
        if self._control is None:
            self._control = _connect(self._address)
        number = len(self._runs)
        said = (log, log) if log else (self._folder / f"{number}.out", self._folder / f"{number}.err")
        news, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, said[0].open("ab") as out, said[1].open("ab") as err:
            request = json.dumps({"code": code, "environment": dict(environment)}).encode()
            socket.send_fds(self._control, [request], [theirs.fileno(), out.fileno(), err.fileno()])
        self._runs.append(ForkedRun(news, said))
        return self._runs[-1]

    def close(self) -> None:
        for run in self._runs:
            run.close()
        if self._control is not None:
            with self._control as control:
                control.shutdown(socket.SHUT_WR)
                control.settimeout(120)
                control.recv(1)  # nothing comes: the server lets go of this process, or ends


@contextmanager
def fork_server(shared: Path | None = None) -> Iterator[ForkServer]:
    """``shared``: the folder in which other processes look for the same server; None: this one has its own."""
    with tempfile.TemporaryDirectory() as folder:
        server = ForkServer(Path(folder), (shared or Path(folder)) / "forks")
        try:
            yield server
        finally:
            server.close()


@contextmanager
def _alone(address: Path) -> Iterator[None]:
    """Nobody else connects to this server, starts it or ends it."""
    with address.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _connect(address: Path) -> socket.socket:
    """Return a connection to the server; start the server if there is none."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with _alone(address):
        if not address.exists():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                listener.bind(str(address))
                listener.listen()
                _start(address, listener)
        control.connect(str(address))  # the server accepts it when its imports are done
    return control


def _start(address: Path, listener: socket.socket) -> None:
    """Start the server and leave it: it outlives this process if others need it still."""
    subprocess.run(
        [sys.executable, "-m", "tests.integration.fork_server", str(listener.fileno()), str(address)],
        pass_fds=[listener.fileno()],
        cwd=ROOT,
        # OpenBLAS would start threads on import, and a process that forks must have none.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
        check=True,
    )


class _Clients:
    """The server's side of the connections. The server ends with the last one."""

    def __init__(self, listener: socket.socket, address: Path) -> None:
        self._listener, self._address = listener, address
        self._ready = selectors.DefaultSelector()
        self._ready.register(listener, selectors.EVENT_READ)

    def next_request(self) -> tuple[bytes, list[int]]:
        """Return the next request and its file descriptors. End the process when the last client has left."""
        while True:
            for key, _ in self._ready.select():
                if key.fileobj is self._listener:
                    self._ready.register(self._listener.accept()[0], selectors.EVENT_READ)
                    continue
                client = key.fileobj
                assert isinstance(client, socket.socket)
                request, fds, _, _ = socket.recv_fds(client, 1 << 20, 3)
                if request:
                    return request, fds
                self._ready.unregister(client)
                self._end_if_alone()
                client.close()

    def _end_if_alone(self) -> None:
        with _alone(self._address):  # no client may connect between the check and the end
            waits = any(key.fileobj is self._listener for key, _ in self._ready.select(0))
            if len(self._ready.get_map()) == 1 and not waits:
                self._address.unlink()
                os._exit(0)  # skips the teardown messages of imported modules that were never used

    def close(self) -> None:
        """Let go of all connections, in a fork."""
        for key in list(self._ready.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._ready.close()


def _next_run(clients: _Clients) -> str:
    """Fork for each request. Returns the run's code in the fork of a run; never returns in the server."""
    while True:
        request, fds = clients.next_request()
        threads = [(thread / "comm").read_text().strip() for thread in Path("/proc/self/task").iterdir()]
        threads.remove("python")
        assert threading.active_count() == 1
        assert set(threads) <= _HARMLESS_THREADS, threads
        if os.fork() == 0:
            clients.close()
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
    if os.fork():
        os._exit(0)  # whoever started the server does not wait for it
    gc.set_threshold(10_000, 10, 10)  # as in the test processes
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()
    # At module level, so that it ends as a script does: a traceback, an exit status, the exit handlers.
    served = _Clients(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
    exec(compile(_next_run(served), "<string>", "exec"), {"__name__": "__main__"})

"""Crop processes of a test process that skip their imports, which took most of their time.

One process has imported what a crop process imports and has done nothing else. It forks for each of them, and the
fork runs as ``python -m`` would: with the given environment, import path, folder and descriptors, and it can be killed.

Crop processes that other processes start, such as a forked run's or a command's, are new Pythons. So are those of
tests that judge the start: they ask for ``cold_crop_processes``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NoReturn
from unittest import mock

from fugue_jobs.pool.idle_pools import close_idle_pools

ROOT = Path(__file__).resolve().parents[1]
# What a process has imported when its first photo is cut.
_MODULES = (
    "fugue_jobs.pool.crop_process", "fugue_jobs.fetching.fetch", "fugue_jobs.imaging.photo_hash", "obstore.store",
    "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "cropline_regions",
)  # fmt: skip


class ForkedProcess:
    """What the product needs of a subprocess.Popen."""

    def __init__(self, news: socket.socket) -> None:
        said, (self._handle,), _, _ = socket.recv_fds(news, 100, 1)
        self.pid, self._news = int(said), news
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status, negative for a signal. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._news.settimeout(timeout)
            try:
                said = self._news.recv(100)
            except TimeoutError:
                raise subprocess.TimeoutExpired(f"crop process {self.pid}", timeout or 0) from None
            assert said, "the process that forks has ended"
            self.returncode = int(said)
            self._news.close()
            os.close(self._handle)
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)


class _Server:
    """A connection to the process that forks, which starts with the first crop process and ends with this one."""

    def __init__(self) -> None:
        self._alone = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = os.getpid()

    def start(
        self,
        command: Sequence[str],
        *,
        stdin: int,
        stdout: IO[bytes],
        stderr: IO[bytes],
        pass_fds: Sequence[int],
        env: Mapping[str, str],
    ) -> Any:
        """Start a crop process as subprocess.Popen does."""
        if os.getpid() != self._pid:
            return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=pass_fds, env=env)
        assert stdin == subprocess.DEVNULL
        module, *numbers = command[command.index("-m") + 1 :]
        assert numbers == [str(fd) for fd in pass_fds]
        request = {"module": module, "environment": dict(env), "folder": str(Path.cwd())}
        news, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._alone, theirs:
            if self._process is None:
                self._open(env)
            descriptors = [theirs.fileno(), stdout.fileno(), stderr.fileno(), *pass_fds]
            socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
        return ForkedProcess(news)

    def close(self) -> None:
        if self._process is not None:
            self._control.close()
            self._process.wait(60)

    def _open(self, env: Mapping[str, str]) -> None:
        """Start it with the first one's environment: some variables work from the start of a process only."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", "-m", "tests.crop_forks", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], cwd=ROOT, env=dict(env) | {"PYTHONPATH": str(ROOT)}
            )


_server = _Server()


@contextmanager
def forked_crop_processes() -> Iterator[None]:
    """Let the crop processes that this process starts be forks."""
    seam = SimpleNamespace(Popen=_server.start, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    with mock.patch("fugue_jobs.pool.child.subprocess", seam):
        yield
    close_idle_pools()
    _server.close()


@contextmanager
def cold() -> Iterator[None]:
    """Let them be new Pythons again."""
    close_idle_pools()
    with mock.patch("fugue_jobs.pool.child.subprocess", subprocess):
        yield
        close_idle_pools()


class _Forks:
    """The running crop processes, and the sockets that get their exit statuses."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._ready = selectors.DefaultSelector()
        self._ready.register(control, selectors.EVENT_READ)
        self._paths = [path for path in sys.path if path != str(ROOT)]

    def serve(self) -> None:
        """Fork for each request until the other end closes; only forks return."""
        while True:
            for key, _ in self._ready.select():
                if key.data is not None:
                    self._reap(key.fd, *key.data)
                    continue
                request, fds, _, _ = socket.recv_fds(self._control, 1 << 20, 8)
                if not request:
                    os._exit(0)  # their pipes are closed as well
                self._fork(json.loads(request), fds)

    def _fork(self, request: dict[str, Any], fds: list[int]) -> None:
        threads = [thread.name for thread in Path("/proc/self/task").iterdir()]
        assert len(threads) == 1, threads
        if (pid := os.fork()) == 0:
            self._let_go()
            _become(request, self._paths, *fds)
        handle = os.pidfd_open(pid)
        news = socket.socket(fileno=fds[0])
        socket.send_fds(news, [str(pid).encode()], [handle])
        for fd in fds[1:]:
            os.close(fd)
        self._ready.register(handle, selectors.EVENT_READ, (pid, news))

    def _let_go(self) -> None:
        """Close what a fork has no business with."""
        for key in list(self._ready.get_map().values()):
            os.close(key.fd)
            if key.data is not None:
                key.data[1].close()
        self._ready.close()

    def _reap(self, handle: int, pid: int, news: socket.socket) -> None:
        self._ready.unregister(handle)
        os.close(handle)
        _, status = os.waitpid(pid, 0)
        with news, suppress(BrokenPipeError):
            news.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, Any], paths: list[str], news: int, out: int, err: int, *passed: int) -> NoReturn:
    """Set up what a new Python has, and run the module's main."""
    try:
        os.close(news)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        first = [path for path in request["environment"]["PYTHONPATH"].split(os.pathsep) if path]
        sys.path[:] = dict.fromkeys([*first, *paths])
        importlib.invalidate_caches()
        sys.argv = ["-m", *map(str, passed)]
        sys.modules[request["module"]].main()
    finally:
        os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent decides
    for name in _MODULES:
        importlib.import_module(name)
    gc.freeze()
    _Forks(socket.socket(fileno=int(sys.argv[1]))).serve()

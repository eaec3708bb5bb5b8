"""Starts, watches and stops the child processes of ``cropline up``, and the processes that those start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cropline.core.errors import CroplineError

END_S = 20
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StackError(CroplineError):
    """A service did not start, or ended by itself."""

    code = "up"


class Services:
    """The child processes, in the order in which they were started."""

    def __init__(self, root: Path, logs: Path, environment: Mapping[str, str]) -> None:
        name, value = "STACK_OF_CROPLINE", f"{os.getpid()}-{time.time_ns()}"
        self._root, self._logs, self._environment = root, logs, {**environment, name: value}
        self._mark = f"{name}={value}"  # inherited by everything that the services start
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - this interpreter, constant arguments
                [sys.executable, "-m", *arguments],
                cwd=self._root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append((name, process))
        return process

    def finish(self, name: str, *arguments: str) -> None:
        """Run a command to its end. Raises StackError when it fails."""
        process = self.start(name, *arguments)
        if process.wait() != 0:
            raise StackError(f"{name} failed: {self._log_tail(name)}")
        self._running.remove((name, process))

    def check(self) -> None:
        """Raise StackError when a service has ended."""
        for name, process in self._running:
            if process.poll() is not None:
                raise StackError(f"the {name} ended with status {process.returncode}: {self._log_tail(name)}")

    def watch(self) -> None:
        while True:
            self.check()
            time.sleep(1)

    def end(self) -> None:
        """End the flow runs, then the services in reverse order of their start.

        A worker that ends kills its runs at once. Runs that get SIGTERM first release their batches.
        """
        listen_no_more()
        _end_runs(self._mark, {part.pid for _, part in self._running})
        while self._running:
            _, process = self._running.pop()
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(END_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            _end_runs(self._mark, {part.pid for _, part in self._running})

    def _log_tail(self, name: str) -> str:
        path = self._logs / f"{name}.log"
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'its log is empty'} (see {path})"


def listen_no_more() -> None:
    """Ignore further signals: a second Ctrl-C would leave services running."""
    for sign in _SIGNALS:
        signal.signal(sign, signal.SIG_IGN)


@contextmanager
def ends_on_signals() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C inside the block. Ignored signals (nohup) stay ignored."""
    before = {sign: signal.getsignal(sign) for sign in _SIGNALS}
    for sign, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(sign, signal.default_int_handler)
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _end_runs(mark: str, services: set[int]) -> None:
    """End marked processes outside the services' sessions: flow runs, also those of a killed worker.

    SIGTERM comes first, SIGKILL after END_S. It reads /proc, so it does nothing on other systems than Linux.
    """
    deadline = time.monotonic() + END_S
    asked: set[int] = set()
    while runs := set(_marked(mark, services)):
        late = time.monotonic() > deadline
        # Signal each process once. A worker that still runs may start more of them.
        for pid in runs if late else runs - asked:
            _signal(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked |= runs
        time.sleep(0.1)


def _marked(mark: str, services: set[int]) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark.encode() in (entry / "environ").read_bytes().split(b"\0")
            session = int((entry / "stat").read_text().rpartition(")")[2].split()[3]) if ours else 0
        except (OSError, ValueError):  # it has ended, or belongs to another user
            continue
        if ours and session not in services:
            found.append(int(entry.name))
    return found


def _signal(pid: int, sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sign)

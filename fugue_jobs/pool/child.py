"""The parent's end of one crop process: starts it, exchanges messages through a pipe, kills it."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fugue_jobs
from fugue_jobs.pool.board import Board

if TYPE_CHECKING:
    from fugue_jobs.pool.assignment import Assignment

# A process that stops in the middle of a message for this long counts as dead.
_PIPE_TIMEOUT_S = 30
_STDERR_TAIL = 2_000
# Make glibc keep freed memory in its heap, in huge pages where the kernel has them, instead of
# returning it after each photo: page faults were a quarter of the decoding time. With one arena all
# threads reuse the same memory.
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "134217728",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


class Child:
    """A running crop process. Not multiprocessing: fork is unsafe with threads, spawn imports ``__main__`` again."""

    def __init__(self, assignment: Assignment) -> None:
        ours, theirs = socket.socketpair()
        limit = struct.pack("ll", _PIPE_TIMEOUT_S, 0)
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, limit)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        with theirs, tempfile.TemporaryFile() as shared:
            self.board = Board(shared.fileno())
            passed = [theirs.fileno(), shared.fileno()]
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "fugue_jobs.pool.crop_process", *map(str, passed)],
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                pass_fds=passed,
                env=os.environ | _ENVIRONMENT | {"PYTHONPATH": _search_path()},
            )
        self.pipe = Connection(ours.detach())
        self.pid = self._process.pid
        self.stderr_tail = ""  # the end of the ended process's stderr
        self.send(assignment)

    def send(self, message: Any) -> None:
        """Send a message. A process that does not read is killed, and receive() reports its end."""
        try:
            self.pipe.send(message)
        except OSError:
            self._process.kill()

    def has_message(self) -> bool:
        """Return whether receive() would return at once."""
        try:
            return self.pipe.poll()
        except OSError:
            return True

    def receive(self) -> tuple[Any, ...] | None:
        """Return the next message; None when the process has ended, even in the middle of a message."""
        try:
            message: tuple[Any, ...] = self.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            return None
        return message

    def kill(self) -> int:
        """End the process if it still runs. Return its exit status, negative for a signal."""
        self.pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # It ends by itself when its pipe closes. SIGKILL is for a process that cannot.
            self._process.wait(timeout=0.2)
        self._process.kill()
        status = self._process.wait()
        with self._stderr:
            self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _STDERR_TAIL))
            self.stderr_tail = self._stderr.read().decode(errors="replace").strip()
        return status

    def forget(self) -> None:
        """Close the pipe without ending the process: a fork is not the process's parent."""
        self.pipe.close()


def surroundings() -> tuple[dict[str, str], str]:
    """Return what a process takes over at its start: the environment and the import path."""
    return dict(os.environ), _search_path()


def _search_path() -> str:
    """Return our import path plus the location of this code (a zip on Spark workers)."""
    home = str(Path(fugue_jobs.__file__).parent.parent)
    return os.pathsep.join([*(path or str(Path.cwd()) for path in sys.path), home])

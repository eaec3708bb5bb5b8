"""Flow runs and commands that skip the imports: forks of tests.integration.fork_server.

A small program takes the place of ``cropline``, ``prefect``, ``python`` or ``python -m prefect.engine``. It asks this process for
a fork with its arguments, environment and folder, passes signals on, and ends as the fork does.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.integration.fork_server import ForkedRun, ForkServer

_LIMIT_S = 600
# What each program does in the fork. The cold ones do the same: their scripts in .venv/bin, and Prefect's worker.
PROGRAMS = {
    "cropline": "from cropline.cli import main; sys.exit(main())",
    "prefect": "from prefect.cli import app; sys.exit(app())",
    "engine": "import runpy; runpy.run_module('prefect.engine', run_name='__main__', alter_sys=True)",
    "python": """
import runpy
sys.executable = %(here)r  # deploy calls Prefect's command with it
option, what = sys.argv[1:3]
if option == "-m":
    sys.argv = sys.argv[2:]
    runpy.run_module(what, run_name="__main__", alter_sys=True)
else:
    assert option == "-c", sys.argv
    sys.argv = ["-c", *sys.argv[3:]]
    exec(what, {"__name__": "__main__"})
""",
}
_CLIENT = """#!{python} -SE
import json, os, signal, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect({address!r})
for sign in (signal.SIGTERM, signal.SIGINT):
    signal.signal(sign, lambda number, _: asked.sendall(b"%d\\n" % number))
words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
asked.sendall(json.dumps([words, dict(os.environ), os.getcwd()]).encode() + b"\\n")
answer = b"".join(iter(lambda: asked.recv(65536), b""))
code, out, err = json.loads(answer)
sys.stdout.write(out)
sys.stderr.write(err)
sys.stdout.flush()
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Warm:
    """Answers the small programs in ``folder``. Use warm()."""

    def __init__(self, folder: Path, forks: ForkServer) -> None:
        self.folder, self._forks, self._one_at_a_time = folder, forks, threading.Lock()
        folder.mkdir()
        address = folder / "socket"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        self._listener.listen()
        for name in PROGRAMS:
            (folder / name).write_text(_CLIENT.format(python=sys.executable, address=str(address)))
            (folder / name).chmod(0o700)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._answer, args=[client], daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as said, suppress(BrokenPipeError):
            words, environment, folder = json.loads(said.readline())
            begin = f"import os, sys; os.chdir({folder!r}); sys.argv = {words!r}; "
            code = begin + PROGRAMS[words[0]].replace("%(here)r", repr(str(self.folder / words[0])))
            with self._one_at_a_time:
                run = self._forks.start(code, environment)
            threading.Thread(target=_pass_on, args=[said, run], daemon=True).start()
            status = run.wait(_LIMIT_S)
            client.sendall(json.dumps([status, run.stdout, run.stderr]).encode())
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _pass_on(said: object, run: ForkedRun) -> None:
    """Pass signals on. A program that was killed takes its fork with it."""
    with suppress(OSError, ValueError):
        for line in said:  # type: ignore[attr-defined]
            run.send_signal(int(line))
    if run.returncode is None:
        run.send_signal(signal.SIGKILL, group=True)


@contextmanager
def warm(folder: Path, forks: ForkServer) -> Iterator[Warm]:
    """Serve the small programs during the block."""
    served = Warm(folder, forks)
    try:
        yield served
    finally:
        served.close()

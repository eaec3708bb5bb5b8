"""``make up``: one command starts the whole stack, and Ctrl-C stops all of it, in the middle of a batch too."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from demo.server import DemoServer
from tests.e2e.stack import ROOT, Stack, end, family, lives


def _listen() -> None:
    """Listen to Ctrl-C as in a terminal: a shell that runs the tests in its background makes them ignore it."""
    for sign in (signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, signal.SIG_DFL)


@contextmanager
def _up(stack: Stack, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command of ``make up DEMO=0``, as in its own terminal."""
    command = [str(Path(sys.executable).parent / "cropline"), "up", "--no-demo"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(stack.port), "--out", str(stack.folder / "up")],
            env=stack.environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=_listen,
        )  # fmt: skip
    try:
        yield process
    finally:
        end(process)


@contextmanager
def _stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Run an unrelated process that looks like one of ours."""
    arguments = ("-m", "prefect", "worker", "start", "--pool", "cropline")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *arguments])
    try:
        yield process
    finally:
        end(process)


def test_ctrl_c_ends_only_what_was_started_and_frees_the_current_batch(
    tmp_path: Path, new_prefect_database: Path
) -> None:
    log = tmp_path / "up.log"
    with DemoServer(photos=2, megapixels=0.3, cache_dir=tmp_path / "photos") as api, _stranger() as stranger:
        stack = Stack(tmp_path, api)
        stack.with_database(tmp_path / "up" / "prefect", new_prefect_database)
        api.control.add_fault("image_slow_drip", seconds=1.0)
        with _up(stack, log) as up:
            stack.until(lambda: up.poll() is not None or "cropline is up" in log.read_text(), "it is up", timeout=240)
            assert up.poll() is None, log.read_text()
            stack.run("poll")
            stack.until(lambda: "claimed" in stack.works().values(), "a batch is in hand", timeout=120)
            started = family(up.pid)
            assert len(started) >= 5, "server, files, worker, a run, its crop processes"
            for impatient in (signal.SIGINT, signal.SIGINT, signal.SIGHUP):
                up.send_signal(impatient)
                stack.until(lambda: "ending ..." in log.read_text(), "it heard that")
            assert up.wait(90) == 0, log.read_text()
        assert not [pid for pid in started if lives(pid)]
        assert stranger.poll() is None
    assert log.read_text().rstrip().endswith("all services have stopped")
    ((_, state, attempt, lease_until),) = stack.batches()
    assert (state, attempt) == ("open", 1)
    assert datetime.fromisoformat(lease_until) <= datetime.now(UTC), "its lease is over: the next start goes on with it"

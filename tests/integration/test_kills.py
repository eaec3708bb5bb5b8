"""Kill or suspend the run between any two steps and run again: the end state is that of an undisturbed run."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Workspace
from tests.integration.killing import AT, assert_same, run_until_nothing_waits
from tests.integration.oracle import Ledger, books

BETWEEN = """
import os, signal, importlib
task = getattr(importlib.import_module("tasks.{step}"), "{step}_task")
task.on_completion(lambda *_: os.kill(os.getpid(), signal.SIGKILL))
from flows.poll import poll
poll()
"""


# After land, register, commit and publish: test_crash_matrix.py.
@pytest.mark.parametrize("step", ["poll", "validate", "claim", "crop"])
def test_killed_between_two_steps_it_ends_as_if_undisturbed(
    disturbed: Workspace, undisturbed: Ledger, step: str
) -> None:
    killed = disturbed.run(BETWEEN.format(step=step))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    run_until_nothing_waits(disturbed)
    assert_same(disturbed, undisturbed)


# A process that is stopped inside a transaction of SQLite would lock everybody out, which this test is not about.
FREE_THE_DATABASE = """
import os, sqlite3
def free_the_database():
    url = os.environ["CROPLINE_STATE__URL"]
    if url.startswith("sqlite:///"):
        database = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=60, isolation_level=None)
        database.execute("BEGIN IMMEDIATE")  # it waits for the heartbeats of the other threads
        database.execute("ROLLBACK")
"""


def _wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def test_a_run_that_sleeps_through_its_lease_cannot_commit_when_it_wakes(
    disturbed: Workspace, undisturbed: Ledger
) -> None:
    disturbed.set(STATE__LEASE_S="1")
    # It stops itself after the crops and before its commit, where a late commit could do most harm.
    stops = AT.format(function="commit", event="call", signal="SIGSTOP")
    sleeper = FREE_THE_DATABASE + stops.replace("os.kill(", "free_the_database(); os.kill(")
    child = disturbed.start(sleeper)
    try:
        _wait_until(lambda: "(stopped)" in Path(f"/proc/{child.pid}/status").read_text())
        time.sleep(3)  # three lease times, which this test is about
        taken_over = disturbed.process()
        assert (taken_over.batches, taken_over.resumed, taken_over.images) == (1, 1, 3)
        before = books(disturbed.place)
        child.send_signal(signal.SIGCONT)
        assert child.wait(60) == 1
    finally:
        child.close()
    assert "StaleLease" in child.stderr
    assert books(disturbed.place).rows == before.rows
    assert disturbed.poll().nothing_new
    assert_same(disturbed, undisturbed)

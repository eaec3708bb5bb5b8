"""Kill or suspend the run between any two steps and run again: the end state is that of an undisturbed run."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
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


def _wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def _an_hour_passes(workspace: Workspace) -> None:
    """Let every lease end, as time would."""
    file = workspace.environment["CROPLINE_STATE__URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(file, timeout=60)) as database, database:
        assert database.execute("UPDATE batches SET lease_until = created_at").rowcount == 1
        assert database.execute("UPDATE runs SET alive_until = (SELECT created_at FROM batches)").rowcount == 1


def test_a_run_that_sleeps_through_its_lease_cannot_commit_when_it_wakes(
    disturbed: Workspace, undisturbed: Ledger
) -> None:
    # No heartbeat comes: one that is stopped inside a transaction of SQLite would lock everybody out.
    disturbed.set(STATE__LEASE_S="3600")
    # It stops itself after the crops and before its commit, where a late commit could do most harm.
    child = disturbed.start(AT.format(function="commit", event="call", signal="SIGSTOP"))
    try:
        _wait_until(lambda: "(stopped)" in Path(f"/proc/{child.pid}/status").read_text())
        _an_hour_passes(disturbed)
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

"""The parts of ``make up``: whatever they started ends with them. The whole of it is in tests/e2e/test_up.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cropline.cli.parts import Parts, ends_on_signals
from tests.e2e.stack import lives

# As a worker that is killed: its run is in a session of its own, and is not told.
_WORKER = """
import subprocess, sys, time
run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open("pid.new", "w").write(str(run.pid))
import os; os.rename("pid.new", "pid"); time.sleep(600)
"""


def test_what_a_part_started_in_a_session_of_its_own_ends_with_it_and_other_parts_go_on(tmp_path: Path) -> None:
    for name in ("logs", "one", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "worker.py").write_text(_WORKER)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with ends_on_signals():
        other, one = (Parts(tmp_path / name, tmp_path / "logs", environment) for name in ("other", "one"))
        for parts in (other, one):
            parts.start("worker", "worker")
        pids = [_pid(tmp_path / name / "pid") for name in ("other", "one")]
        one.end()
        assert [lives(pid) for pid in pids] == [True, False]
        other.check()
        other.end()
    assert not lives(pids[0])


def _pid(path: Path) -> int:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.02)
    return int(path.read_text())

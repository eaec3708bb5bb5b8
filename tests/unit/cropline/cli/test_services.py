"""The parts of ``make up``: every process that they started ends with them. tests/e2e/test_up.py tests the whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cropline.cli.services import Services, ends_on_signals
from tests.e2e.stack import lives

# A worker that is killed: its run is in another session and gets no signal.
_WORKER = """
import subprocess, sys, time
run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open("pid.new", "w").write(str(run.pid))
import os; os.rename("pid.new", "pid"); time.sleep(600)
"""

# A worker that is still busy: when its run ends it starts another. SIGTERM stays blocked until that one is ready.
_BUSY_WORKER = """
import signal, subprocess, sys, time, os
SECOND = '''
import pathlib, signal, sys, time
def asked(*_):
    pathlib.Path("asked").write_text("")
    sys.exit()
signal.signal(signal.SIGTERM, asked)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
time.sleep(600)
'''
FIRST = f'''
import signal, subprocess, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
open("ready", "w").close()
signal.sigwait([signal.SIGTERM])
subprocess.Popen([sys.executable, "-c", {SECOND!r}], start_new_session=True)
'''
run = subprocess.Popen([sys.executable, "-c", FIRST], start_new_session=True)
while not os.path.exists("ready"): time.sleep(0.02)
open("pid.new", "w").write(str(run.pid))
os.rename("pid.new", "pid"); time.sleep(600)
"""


def test_what_a_part_started_in_a_session_of_its_own_ends_with_it_and_other_parts_go_on(tmp_path: Path) -> None:
    for name in ("logs", "one", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "worker.py").write_text(_WORKER)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with ends_on_signals():
        other, one = (Services(tmp_path / name, tmp_path / "logs", environment) for name in ("other", "one"))
        for services in (other, one):
            services.start("worker", "worker")
        pids = [_pid(tmp_path / name / "pid") for name in ("other", "one")]
        one.end()
        assert [lives(pid) for pid in pids] == [True, False]
        other.check()
        other.end()
    assert not lives(pids[0])


def test_a_run_that_a_worker_starts_while_others_end_is_asked_before_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "worker.py").write_text(_BUSY_WORKER)
    with ends_on_signals():
        services = Services(tmp_path, tmp_path / "logs", dict(os.environ))
        services.start("worker", "worker")
        _pid(tmp_path / "pid")
        services.end()
    assert (tmp_path / "asked").exists()


def _pid(path: Path) -> int:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.02)
    return int(path.read_text())

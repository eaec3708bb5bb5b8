"""``cropline watch``: each new photo is cropped once, whatever runs beside it and however it is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cropline.core.errors import ApiRefused
from cropline.state import State
from tests.integration.conftest import Workspace, after_a_poll, artifact_text
from tests.integration.fork_server import ForkedRun
from tests.integration.test_idle_poll import HEAVY

IDLE = f"""
import json, sys
from flows.watch import watch
watched = watch(every_s=0.1, minutes=0.05)
loaded = {{name.partition(".")[0] for name in sys.modules}}
looks = [watched.idle, watched.found, watched.failed]
print(json.dumps({{"looks": looks, "heavy": sorted(loaded & set({HEAVY!r}))}}))
"""


WATCH = "from cropline.cli import main; main()"
Watch = subprocess.Popen[str] | ForkedRun


@contextmanager
def _watching(workspace: Workspace) -> Iterator[Watch]:
    """Run the command as in a terminal: in its own process group, all of which Ctrl-C reaches."""
    command = [sys.executable, "-c", WATCH, "watch", "--every", "0.2"]
    child = subprocess.Popen(
        command, env=os.environ.copy(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()


def _said(child: Watch) -> tuple[str, str]:
    """Wait for its end. Return its output and what it wrote to stderr."""
    if isinstance(child, ForkedRun):
        child.wait(60)
        return child.stdout, child.stderr
    said, complained = child.communicate(timeout=60)
    return said, complained


def _press_ctrl_c(child: Watch) -> str:
    """Return its last output. It must end without a traceback and leave no process behind."""
    os.killpg(child.pid, signal.SIGINT)
    said, complained = _said(child)
    assert child.returncode == 0, complained[-3000:]
    assert "Traceback" not in complained
    assert not _session(child.pid)
    return said


def _session(leader: int) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(entry.parent.name)
    return found


def _until(holds: Callable[[], bool], what: str, child: Watch) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert child.poll() is None, _said(child)[1][-3000:]
        assert time.monotonic() < deadline, f"it never came to that: {what}"
        time.sleep(0.2)


def _done(workspace: Workspace, images: int) -> bool:
    return Counter(workspace.states().values()) == {"done": images}


def test_each_photo_is_cropped_once_despite_concurrent_and_failed_polls(workspace: Workspace) -> None:
    control = workspace.api.control
    # The watch that is interrupted in a batch, below, is a new process.
    child = workspace.start(f"import sys; sys.argv = ['cropline', 'watch', '--every', '0.2']; {WATCH}")
    with closing(child):
        _until(lambda: _done(workspace, 6), "what was there is done", child)
        for _ in range(4):
            control.advance(photos=2)
            workspace.poll()
        _until(lambda: _done(workspace, 14), "what came while both ran is done", child)

        control.add_fault("listing_500")
        # A poll asks twice, see API__RETRIES in conftest.py.
        _until(lambda: sum(e["status"] == 500 for e in control.log()) > 2, "a look failed", child)
        control.clear_faults()
        control.advance(photos=1)
        _until(lambda: _done(workspace, 15), "it looked again", child)
        said = _press_ctrl_c(child)
    assert set(control.counts().values()) == {1}, "each photo was fetched once"
    rows = workspace.rows()
    assert len({(row["image_id"], row["box_index"]) for row in rows}) == len(rows) == len(workspace.objects())
    assert len(rows) == sum(len(row["boxes"]) for row in control.images() if row["id"] in workspace.states())
    assert ", 0 failed;" in said
    crops, images = said.split()[0], said.split()[3]
    summary = artifact_text("watch-summary")
    assert f"**{crops} crops written from {images} images" in summary, "all that it did"
    assert "![contact sheet](data:image/jpeg;base64," in summary
    assert not said.rstrip().endswith(" 0 failed"), "the look that failed is told"


def test_ctrl_c_in_the_middle_of_a_batch_frees_it_and_the_next_run_finishes_it(workspace: Workspace) -> None:
    workspace.api.control.add_fault("image_slow_drip", seconds=0.5)
    with _watching(workspace) as child:
        _until(lambda: "claimed" in workspace.states().values(), "a batch is claimed", child)
        _press_ctrl_c(child)
    workspace.api.control.clear_faults()
    with State.open(workspace.settings.state) as state:
        assert state.report().stale_batches == 1
    resumed = workspace.process()
    assert (resumed.batches, resumed.resumed) == (1, 1)
    assert _done(workspace, 6)


@after_a_poll()
def test_empty_polls_make_one_call_each_and_import_no_heavy_library(workspace: Workspace) -> None:
    workspace.api.control.clear_log()
    child = workspace.child(IDLE)
    assert child.returncode == 0, child.stderr[-3000:]
    said = json.loads(child.stdout.splitlines()[-1])
    idle, found, failed = said["looks"]
    assert (found, failed) == (0, 0)
    assert idle >= 1
    calls = [entry for entry in workspace.api.control.log() if entry["path"] == "/v1/images"]
    # The first poll is a full one, which reads the overlap: two pages of four.
    assert len(calls) == idle + 1
    # obstore proves that the output is writable before anything depends on it.
    assert said["heavy"] == ["obstore"]


def test_a_watch_crops_registered_photos_while_the_api_fails_and_then_fails(workspace: Workspace) -> None:
    from flows.poll import poll
    from flows.watch import watch

    workspace.set(BATCH__IMAGES="3")
    poll(max_batches=1)
    assert Counter(workspace.states().values()) == {"done": 3, "pending": 3}
    workspace.set(API__IMAGES_PATH="/v1/elsewhere")
    with pytest.raises(ApiRefused):
        watch(every_s=0.1, minutes=0.01)
    assert _done(workspace, 6)

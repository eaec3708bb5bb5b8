"""A machine vanishes: the worker and everything it started are killed at once, in the middle of a batch."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.stack import ROOT, Stack, family, kill


def _patience(stack: Stack, tmp_path: Path, seconds: int) -> None:
    """Deploy the shipped automation with a shorter timeout; heartbeats come every 30 s at the least."""
    text = (ROOT / "automations" / "zombies.yaml").read_text()
    path = tmp_path / "zombies.yaml"
    path.write_text(text.replace("within: 90", f"within: {seconds}"))
    applied = stack.python("automations", str(path))
    assert "updated" in applied.stdout, applied.stdout + applied.stderr


def test_a_dead_worker_is_noticed_its_slot_freed_and_its_batch_resumed(stack: Stack, tmp_path: Path) -> None:
    _patience(stack, tmp_path, 45)
    (photo,) = stack.api.control.advance(photos=1)[0]
    stack.api.control.add_fault("image_slow_drip", seconds=0.3)
    # A short lease: the dead run's batch may be taken over as soon as the run is known to be dead.
    with stack.worker(CROPLINE_STATE__LEASE_S="20") as worker:
        run = stack.run("poll", cold=True)
        stack.until(lambda: stack.works().get(photo) == "claimed", "the poll has claimed a batch", timeout=240)
        kill(family(worker.pid))
    assert stack.state(run) == "RUNNING", "nobody is left to say otherwise"
    stack.api.control.clear_faults()
    stack.until(lambda: stack.state(run) == "CRASHED", "the automation crashes the run", timeout=240, every=1)
    batch = stack.batches()[-1][0]
    with stack.worker(CROPLINE_STATE__LEASE_S="20"):
        assert stack.ended(stack.run("poll")) == "COMPLETED", "the slot is free, the next poll is not dropped"
    assert stack.works()[photo] == "done"
    assert [entry[:3] for entry in stack.batches() if entry[0] == batch] == [(batch, "committed", 2)]

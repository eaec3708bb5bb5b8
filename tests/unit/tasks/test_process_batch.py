"""A batch whose lease is lost, or whose run ends, stops soon. The state is real; a fake job never ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cropline.config.settings import Settings
from cropline.core.errors import RunStopped, StaleLease
from cropline.pipeline.run import Run
from cropline.state import Batch, State
from tasks.process_batch import BatchSteps, process_batch
from tests.contract.state.build import candidate, registration
from tests.unit.cropline.lineage.test_events import CONTEXT


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    settings = Settings.model_validate(
        {
            "api": {"source": "cams"},
            "storage": {"url": (tmp_path / "out").as_uri()},
            "state": {"url": f"sqlite:///{tmp_path / 'state.db'}", "lease_s": 0.3},
        }
    )
    with Run(settings, CONTEXT, lambda *_: None) as opened:
        opened.state.register(registration([candidate("a")]))
        yield opened


def _never(*_: Any) -> Any:
    raise AssertionError("nothing of it may be committed")


def _steps(meanwhile: Callable[[], None]) -> BatchSteps:
    def crop(_run: Run, _batch: Batch, check: Callable[[], None]) -> Any:
        meanwhile()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            check()
            time.sleep(0.01)
        raise AssertionError("the job was never ended")

    return BatchSteps(crop, _never, _never)


def test_a_batch_that_another_run_took_over_stops_here(run: Run) -> None:
    batch = run.state.claim(limit=1, owner="me", source="cams")
    assert batch is not None
    taken: list[Batch | None] = []

    def take() -> None:
        run.state.release(batch, "it seemed dead")
        taken.append(run.state.claim(limit=1, owner="another", source="cams"))

    with pytest.raises(StaleLease):
        process_batch(run, batch, _steps(take))
    (other,) = taken
    assert other is not None
    run.state.renew(other)  # the other run still holds it
    assert run.funnel.batches == 1


def test_a_batch_of_a_run_that_ends_is_freed_and_the_next_run_resumes_it(run: Run) -> None:
    batch = run.state.claim(limit=1, owner="me", source="cams")
    assert batch is not None
    with pytest.raises(RunStopped):
        process_batch(run, batch, _steps(run.stop))
    with State.open(run.settings.state) as state:
        again = state.claim(limit=1, owner="next", source="cams")
    assert again is not None
    assert (again.batch_id, again.attempt, again.resumed) == (batch.batch_id, 2, True)

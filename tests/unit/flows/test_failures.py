"""An error in an intake neither delays the backlog nor ends a watch."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

import flows.running
import flows.watch
from cropline.config.settings import Settings
from cropline.core.errors import ApiUnavailable, StorageError
from cropline.pipeline.funnel import Funnel
from flows.running import drained_on_failure


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (flows.running, flows.watch):
        monkeypatch.setattr(module, "get_run_logger", logging.getLogger)


@pytest.mark.parametrize("error", [ApiUnavailable("503"), RecursionError("an item nested too deep"), KeyError("x")])
def test_the_backlog_is_cropped_before_any_failure_of_the_intake_is_raised(error: Exception) -> None:
    drained: list[int] = []
    with pytest.raises(type(error)) as caught, drained_on_failure(lambda: drained.append(1)):
        raise error
    assert caught.value is error
    assert drained == [1]


def test_the_intakes_failure_is_the_one_to_show(caplog: pytest.LogCaptureFixture) -> None:
    def drain() -> None:
        raise StorageError("the disk is full")

    with pytest.raises(RecursionError), drained_on_failure(drain):
        raise RecursionError
    assert "the disk is full" in caplog.text


def test_a_cancelled_intake_does_not_process_the_backlog() -> None:
    def drain() -> None:
        raise AssertionError("a cancelled run has seconds to live")

    with pytest.raises(KeyboardInterrupt), drained_on_failure(drain):
        raise KeyboardInterrupt


def test_a_watch_survives_an_unexpected_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flows.watch, "is_rate_limited", lambda _name: False)
    run: Any = SimpleNamespace(funnel=Funnel(), settings=Settings())
    loop = flows.watch._PollLoop(run, 0.1)

    def fail() -> bool:
        raise RecursionError("an item nested too deep")

    monkeypatch.setattr(loop, "_poll", fail)
    loop.poll_once()
    assert loop.result.failed == 1
    assert "RecursionError: an item nested too deep" in caplog.text
    assert "Traceback" in caplog.text, "nobody foresaw it: the log says where it came from"
    with pytest.raises(RecursionError):
        loop.end()
    monkeypatch.setattr(loop, "_poll", lambda: True)
    loop.poll_once()
    loop.end()

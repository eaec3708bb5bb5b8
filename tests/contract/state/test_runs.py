"""Active flow runs: each has one end, its own or, when it was killed, one that another run emits."""

import pytest

from cropline.core.errors import StaleLease
from cropline.state import State
from tests.contract.state.build import Clock, Look, event


def names(state: State) -> list[str]:
    return [pending.event_id for pending in state.pending_events(100)]


def test_a_run_that_ends_is_never_silent(state: State, clock: Clock) -> None:
    state.begin_run("a", event("a/start"))
    assert state.end_run("a", [event("a/end")])
    clock.forward(days=1)
    assert state.expired_runs() == []
    assert names(state) == ["a/start", "a/end"]


def test_a_run_that_is_kept_is_not_silent_and_one_that_is_not_is(state: State, clock: Clock) -> None:
    for name in ("kept", "killed"):
        state.begin_run(name, event(f"{name}/start"))
    clock.forward(seconds=200)
    state.renew_run("kept")
    clock.forward(seconds=101)
    (silent,) = state.expired_runs()
    assert (silent.flow_run, silent.start) == ("killed", event("killed/start").payload)
    clock.forward(seconds=200)
    assert [run.flow_run for run in state.expired_runs()] == ["killed", "kept"]


def test_a_run_ends_once_whoever_is_first(state: State, look: Look) -> None:
    state.begin_run("a", event("a/start"))
    assert state.end_run("a", [event("a/end")])
    assert not state.end_run("a", [event("a/other")])
    assert not state.end_run("never begun", [event("x")])
    assert names(state) == ["a/start", "a/end"]
    assert look.one("SELECT count(*) FROM runs") == 0


def test_who_was_heard_of_since_is_not_ended_by_another(state: State, clock: Clock) -> None:
    state.begin_run("a", event("a/start"))
    clock.forward(seconds=301)
    assert state.expired_runs()
    state.renew_run("a")
    assert not state.end_run("a", [event("a/abort")], expired_only=True)
    clock.forward(seconds=301)
    assert state.end_run("a", [event("a/abort")], expired_only=True)
    assert names(state) == ["a/start", "a/abort"]


def test_a_run_that_wakes_after_its_end_was_told_learns_it(state: State, clock: Clock) -> None:
    state.begin_run("a", event("a/start"))
    clock.forward(seconds=301)
    state.end_run("a", [event("a/abort")], expired_only=True)
    with pytest.raises(StaleLease, match="run a has ended"):
        state.renew_run("a")
    assert not state.end_run("a", [event("a/end")])

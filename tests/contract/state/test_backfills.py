"""Backfills and replays in the state: they get only their own work items, are remembered, and the backlog is sampled."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from cropline.config.state import StateSettings
from cropline.core.errors import StateError
from cropline.state import BacklogSample, State
from tests.contract.state.build import NOON, Clock, Look, candidate, counts, event, ids, outcomes, registration
from tests.contract.state.servers import Postgres


def _three(state: State) -> None:
    state.register(registration([candidate("a", at=1), candidate("b", at=2), candidate("c", at=3)]))


def test_a_claim_of_named_images_takes_these_and_no_others(state: State, look: Look) -> None:
    _three(state)
    assert ids(state.claim(limit=10, owner="me", images=["a", "c", "unknown"])) == ["a", "c"]
    assert look.states() == {"a": "claimed", "b": "pending", "c": "claimed"}
    assert state.claim(limit=10, owner="me", images=["a", "c"]) is None


def test_a_claim_of_named_images_leaves_stale_batches_to_resume(state: State, clock: Clock) -> None:
    _three(state)
    dead = state.claim(limit=1, owner="dead", images=["a"])
    assert dead is not None
    clock.forward(hours=1)
    assert ids(state.claim(limit=10, owner="me", images=["b"])) == ["b"]
    resumed = state.resume(owner="me")
    assert resumed is not None
    assert (resumed.batch_id, resumed.attempt, ids(resumed)) == (dead.batch_id, 2, ["a"])
    assert state.resume(owner="me") is None


def test_reviving_named_images_leaves_the_others_as_they_are(state: State, look: Look) -> None:
    _three(state)
    batch = state.claim(limit=10, owner="me")
    assert batch is not None
    state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
    assert state.requeue(states=["done"], images=["b", "unknown"]) == 1
    assert look.states() == {"a": "done", "b": "pending", "c": "done"}


def test_works_are_found_by_camera(state: State) -> None:
    state.register(registration([candidate("a", camera_id="left"), candidate("b", camera_id="right")]))
    assert [work.image_id for work in state.find_images(cameras=["right"])] == ["b"]


def test_a_backfill_goes_on_until_it_is_ended(state: State, clock: Clock) -> None:
    first = state.begin_backfill("f00", "{}")
    assert (first.at, first.resumed) == (NOON, False)
    clock.forward(hours=1)
    again = state.begin_backfill("f00", "{}")
    assert (again.at, again.resumed) == (NOON, True)
    assert state.unfinished_backfill("f00") == again
    assert state.unfinished_backfill("other") is None
    state.end_backfill("f00")
    assert state.unfinished_backfill("f00") is None
    clock.forward(hours=1)
    later = state.begin_backfill("f00", "{}")
    assert (later.at, later.resumed) == (NOON + timedelta(hours=2), False)


def test_a_restarted_backfill_forgets_the_unfinished_one(state: State, clock: Clock) -> None:
    state.begin_backfill("f00", "{}")
    clock.forward(hours=1)
    restart = state.begin_backfill("f00", "{}", restart=True)
    assert (restart.at, restart.resumed) == (NOON + timedelta(hours=1), False)


def test_the_backlog_is_sampled_no_more_often_than_asked_and_forgotten_in_time(state: State, clock: Clock) -> None:
    minute = timedelta(minutes=1)
    assert state.sample_backlog(at_most_every=minute, keep=timedelta(hours=1))
    _three(state)
    clock.forward(seconds=30)
    assert not state.sample_backlog(at_most_every=minute, keep=timedelta(hours=1))
    clock.forward(seconds=30)
    assert state.sample_backlog(at_most_every=minute, keep=timedelta(hours=1))
    empty, full = BacklogSample(NOON, 0, 0, 0, 0, None), BacklogSample(NOON + minute, 3, 0, 0, 0, NOON)
    assert state.backlog_samples(NOON) == [empty, full]
    assert state.backlog_samples(NOON + minute) == [full]
    clock.forward(hours=1)
    state.sample_backlog(keep=timedelta(hours=1))
    assert [sample.at for sample in state.backlog_samples(NOON)] == [NOON + minute, NOON + minute + timedelta(hours=1)]


def test_a_copy_holds_every_row_and_goes_on_where_the_old_one_was(state: State, clock: Clock, tmp_path: Path) -> None:
    _three(state)
    batch = state.claim(limit=2, owner="me")
    assert batch is not None
    done = outcomes(batch, reasons={"c": "timeout"})
    state.commit(batch, done, counts=counts(batch), catalogue_version=1, events=[event("e1"), event("e2")])
    state.begin_backfill("f00", "{}")
    state.sample_backlog()
    target = f"sqlite:///{tmp_path}/copy.db"
    with State.open(StateSettings.model_validate({"url": target}), clock=clock) as other:
        told: dict[str, int] = {}
        state.copy_to(other, told.__setitem__)
        assert (told["images"], told["batches"], told["outbox"]) == (3, 1, 2)
        assert other.report().images == state.report().images
        assert [entry.event_id for entry in other.pending_events(9)] == ["e1", "e2"]
        assert other.find_images() == state.find_images()
        assert other.cursor("cams") == state.cursor("cams")
        assert ids(other.claim(limit=1, owner="there")) == ["a"]
        with pytest.raises(StateError, match="not empty"):
            state.copy_to(other, told.__setitem__)


def test_an_open_batch_is_not_left_behind(state: State, tmp_path: Path) -> None:
    _three(state)
    state.claim(limit=1, owner="me")
    with (
        State.open(StateSettings.model_validate({"url": f"sqlite:///{tmp_path}/copy.db"})) as other,
        pytest.raises(StateError, match="batches are open"),
    ):
        state.copy_to(other, lambda *_: None)
    with State.open(StateSettings.model_validate({"url": f"sqlite:///{tmp_path}/copy.db"})) as other:
        assert other.find_images() == []


def test_a_copy_may_go_to_postgresql(postgres: Postgres, tmp_path: Path, clock: Clock) -> None:
    with State.open(StateSettings.model_validate({"url": f"sqlite:///{tmp_path}/old.db"}), clock=clock) as old:
        _three(old)
        with State.open(StateSettings.model_validate({"url": postgres.fresh()}), clock=clock) as new:
            old.copy_to(new, lambda *_: None)
            assert new.find_images() == old.find_images()
            assert new.report().images["pending"] == 3
            new.enqueue_events([event("later")])
            assert [entry.event_id for entry in new.pending_events(9)] == ["later"]

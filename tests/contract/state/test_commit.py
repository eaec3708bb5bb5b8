"""Committing: the new state of each work item, the reconciliation, and that a batch is committed once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cropline.core.errors import NotReconciled, StaleLease
from cropline.state import Batch, Committed, Counts, Outcome, State
from tests.contract.state.build import NOON, RECIPES, Clock, Look, candidate, counts, event, ids, outcomes, registration
from tests.contract.state.conftest import Open


def claimed(state: State, *names: str, **values: Any) -> Batch:
    """Return a batch of all these new images."""
    state.register(registration([candidate(name, **values) for name in names], manifest=f"of {names}"))
    batch = state.claim(limit=1_000, owner="test")
    assert batch is not None
    return batch


def test_works_are_done_and_the_batch_keeps_its_counts(state: State, look: Look) -> None:
    batch = claimed(state, "a", "b")
    counted = Counts(images=2, boxes=6, written=4, failed=1, skipped=1)
    committed = state.commit(batch, outcomes(batch), counts=counted, catalogue_version=7)
    assert committed == Committed(done=2, failed=0, dead=0, pending_again=0, already=False)
    assert look.states() == {"a": "done", "b": "done"}
    found = state.batch(batch.batch_id)
    assert found is not None
    assert (found.state, found.counts, found.catalogue_version) == ("committed", counted, 7)
    assert found.committed_at == NOON


def test_committing_again_after_a_lost_reply_changes_nothing(state: State, look: Look, clock: Clock) -> None:
    batch = claimed(state, "a")
    given: dict[str, Any] = {"counts": counts(batch), "catalogue_version": 7, "events": [event("e")]}
    state.commit(batch, outcomes(batch), **given)
    before = look.everything()
    clock.forward(hours=1)
    assert state.commit(batch, outcomes(batch), **given) == Committed(0, 0, 0, 0, already=True)
    assert look.everything() == before


def test_an_unknown_batch_cannot_be_committed(state: State) -> None:
    batch = claimed(state, "a")
    unknown = Batch(**{**batch.__dict__, "batch_id": "20261122-000000-000000000000"})
    with pytest.raises(StaleLease):
        state.commit(unknown, outcomes(batch), counts=counts(batch), catalogue_version=7)


def test_an_image_that_changed_while_it_was_claimed_is_pending_again(state: State, look: Look) -> None:
    batch = claimed(state, "a", "b", "c")
    rows = [candidate("a", version="v2", at=9), candidate("b", version="v2", at=9)]
    assert state.register(registration(rows, manifest="m2")).changed == 2
    assert look.states() == {"a": "claimed", "b": "claimed", "c": "claimed"}
    assert state.claim(limit=10, owner="other") is None  # one at a time
    committed = state.commit(
        batch, outcomes(batch, reasons={"b": "timeout"}), counts=counts(batch), catalogue_version=1
    )
    assert committed == Committed(done=1, failed=0, dead=0, pending_again=2, already=False)
    assert look.states() == {"a": "pending", "b": "pending", "c": "done"}
    second = state.claim(limit=10, owner="other")
    assert second is not None
    assert [work["fingerprint"] for image in second.images.to_pylist() for work in image["work"]] == [
        "a/v2/default",
        "b/v2/default",
    ]


def test_an_image_that_changed_and_changed_back_is_done(state: State, look: Look) -> None:
    batch = claimed(state, "a")
    state.register(registration([candidate("a", version="v2", at=5)], manifest="m2"))
    state.register(registration([candidate("a", version="v1", at=9)], manifest="m3"))
    assert state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1).done == 1
    assert look.states() == {"a": "done"}


def test_a_permanent_failure_is_done_and_keeps_its_reason(state: State) -> None:
    batch = claimed(state, "a")
    ended = outcomes(batch, permanent_reason="http_404")
    state.commit(batch, ended, counts=Counts(1, 3, 0, 3, 0), catalogue_version=1)
    (work,) = state.image("cams", "a")
    assert (work.state, work.reason, work.retry_at) == ("done", "http_404", None)


class TestReconciliation:
    """A commit whose counts do not add up is refused."""

    @pytest.mark.parametrize(
        "wrong",
        [
            Counts(images=2, boxes=6, written=11, failed=0, skipped=0),
            Counts(images=2, boxes=6, written=13, failed=0, skipped=0),
            Counts(images=2, boxes=6, written=6, failed=0, skipped=0),
            Counts(images=2, boxes=12, written=12, failed=0, skipped=0),
            Counts(images=1, boxes=6, written=12, failed=0, skipped=0),
            Counts(images=3, boxes=6, written=12, failed=0, skipped=0),
        ],
    )
    def test_wrong_counts(self, state: State, look: Look, wrong: Counts) -> None:
        state.register(registration([candidate(name, profile=p) for name in "ab" for p in RECIPES]))
        batch = state.claim(limit=5, owner="test")
        assert batch is not None
        before = look.everything()
        with pytest.raises(NotReconciled, match="2 images with 6 boxes make 12 crops"):
            state.commit(batch, outcomes(batch), counts=wrong, catalogue_version=1)
        assert look.everything() == before
        right = Counts(images=2, boxes=6, written=9, failed=2, skipped=1)
        assert state.commit(batch, outcomes(batch), counts=right, catalogue_version=1).done == 4

    def test_a_missing_a_doubled_and_a_foreign_outcome(self, state: State, look: Look) -> None:
        batch = claimed(state, "a", "b")
        good = outcomes(batch)
        foreign = Outcome("cams", "c", "default", "c/v1/default", ok=True)
        other_work = Outcome("cams", "a", "default", "a/v2/default", ok=True)
        other_source = Outcome("elsewhere", "a", "default", "a/v1/default", ok=True)
        no_reason = Outcome("cams", "a", "default", "a/v1/default", ok=False)
        before = look.everything()
        for wrong in (
            good[:1],
            [],
            [*good, good[0]],
            [good[0], good[0]],
            [*good, foreign],
            [foreign, good[1]],
            [other_work, good[1]],
            [other_source, good[1]],
            [no_reason, good[1]],
        ):
            with pytest.raises(NotReconciled):
                state.commit(batch, wrong, counts=counts(batch), catalogue_version=1, events=[event("e")])
        assert look.everything() == before

    def test_an_image_without_boxes_is_done_with_no_crops(self, state: State) -> None:
        batch = claimed(state, "a", boxes=0)
        assert state.commit(batch, outcomes(batch), counts=counts(batch, 0), catalogue_version=None).done == 1


class TestTransientFailures:
    """Failures are retried with growing waits, then dead."""

    def attempt(self, state: State, clock: Clock, **values: Any) -> datetime | None:
        """Claim what is due within a year of the last time and fail it. Return when it is due again."""
        clock.forward(days=365)
        batch = state.claim(limit=5, owner="test")
        assert ids(batch) == ["a"]
        assert batch is not None
        state.commit(
            batch, outcomes(batch, reasons={"a": "timeout"}, **values), counts=counts(batch), catalogue_version=1
        )
        (work,) = state.image("cams", "a")
        return work.retry_at

    def test_the_wait_doubles_with_jitter_up_to_the_cap(self, open_state: Open, clock: Clock) -> None:
        state = open_state(backoff_s=60, backoff_cap_s=1_000, max_attempts=8)
        state.register(registration([candidate("a")]))
        for expected in (60, 120, 240, 480, 1_000 / 1.5, 1_000 / 1.5, 1_000 / 1.5):
            retry_at = self.attempt(state, clock)
            assert retry_at is not None
            waited = (retry_at - clock.now).total_seconds()
            assert expected - 0.001 <= waited <= min(expected * 1.5, 1_000) + 0.001

    @pytest.mark.parametrize("cap", [100_000, 1_000], ids=["below the cap", "at the cap"])
    def test_jitter_spreads_what_failed_together(self, open_state: Open, look: Look, cap: int) -> None:
        state = open_state(backoff_s=1_000, backoff_cap_s=cap)
        names = [f"i{n}" for n in range(50)]
        batch = claimed(state, *names)
        state.commit(
            batch, outcomes(batch, reasons=dict.fromkeys(names, "http_5xx")), counts=counts(batch), catalogue_version=1
        )
        assert len({row[0] for row in look.rows("SELECT retry_at FROM images")}) > 40

    def test_a_longer_wait_that_the_host_asks_for_is_honoured_up_to_the_cap(
        self, open_state: Open, clock: Clock
    ) -> None:
        state = open_state(backoff_s=10, backoff_cap_s=1_000)
        state.register(registration([candidate("a")]))
        asked = self.attempt(state, clock, retry_after_s=700)
        assert asked is not None
        assert timedelta(seconds=700) <= asked - clock.now <= timedelta(seconds=1_000)
        assert self.attempt(state, clock, retry_after_s=86_400) == clock.now + timedelta(seconds=1_000)
        retry_at = self.attempt(state, clock, retry_after_s=1)
        assert retry_at is not None
        assert retry_at >= clock.now + timedelta(seconds=40)

    def test_what_one_host_put_off_does_not_come_back_in_one_moment(self, open_state: Open, look: Look) -> None:
        state = open_state(backoff_s=1)
        names = [f"i{n}" for n in range(50)]
        batch = claimed(state, *names)
        told = outcomes(batch, reasons=dict.fromkeys(names, "http_429"), retry_after_s=60)
        state.commit(batch, told, counts=counts(batch), catalogue_version=1)
        assert len({row[0] for row in look.rows("SELECT retry_at FROM images")}) > 40

    def test_after_max_attempts_it_is_dead_and_is_not_claimed(self, open_state: Open, clock: Clock, look: Look) -> None:
        state = open_state(max_attempts=3)
        state.register(registration([candidate("a")]))
        assert [self.attempt(state, clock) is None for _ in range(3)] == [False, False, True]
        assert look.rows("SELECT state, reason, attempts FROM images") == [("dead", "timeout", 3)]
        clock.forward(days=365)
        assert state.claim(limit=5, owner="test") is None

    def test_success_and_a_new_version_begin_the_count_anew(self, open_state: Open, clock: Clock, look: Look) -> None:
        state = open_state(max_attempts=3)
        state.register(registration([candidate("a")]))
        self.attempt(state, clock)
        self.attempt(state, clock)
        state.register(registration([candidate("a", version="v2", at=9)], manifest="m2"))
        assert look.rows("SELECT state, attempts FROM images") == [("pending", 0)]
        self.attempt(state, clock)
        assert look.rows("SELECT state, attempts FROM images") == [("failed", 1)]
        clock.forward(days=1)
        batch = state.claim(limit=5, owner="test")
        assert batch is not None
        state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
        assert look.rows("SELECT state, attempts, reason FROM images") == [("done", 0, None)]

    def test_one_failed_profile_does_not_hold_the_others(self, state: State) -> None:
        state.register(registration([candidate("a", profile=p) for p in RECIPES]))
        batch = state.claim(limit=5, owner="test")
        assert batch is not None
        ended = [
            Outcome("cams", "a", "default", "a/v1/default", ok=True),
            Outcome("cams", "a", "small", "a/v1/small", ok=False, transient_reason="storage"),
        ]
        committed = state.commit(batch, ended, counts=counts(batch), catalogue_version=1)
        assert (committed.done, committed.failed) == (1, 1)
        assert {work.profile: work.state for work in state.image("cams", "a")} == {"default": "done", "small": "failed"}


def test_a_batch_in_which_everything_failed_is_ended_image_by_image(
    open_state: Open, look: Look, clock: Clock, url: str
) -> None:
    state = open_state(max_attempts=2, backoff_s=10)
    names = [f"i{n}\x00" for n in range(300)]
    reasons = {name: ("timeout", "http_5xx", "storage")[n % 3] for n, name in enumerate(names)}
    batch = claimed(state, *names)
    state.commit(batch, outcomes(batch, reasons=reasons), counts=counts(batch), catalogue_version=1)
    clock.forward(hours=1)
    again = state.claim(limit=1_000, owner="test")
    assert again is not None
    for name in names[:100]:
        del reasons[name]
    committed = state.commit(again, outcomes(again, reasons=reasons), counts=counts(again), catalogue_version=2)
    assert committed == Committed(done=100, failed=0, dead=200, pending_again=0, already=False)
    found = {work.image_id: work for name in names for work in state.image("cams", name)}
    assert {name: work.reason for name, work in found.items() if work.state == "dead"} == reasons
    assert {work.reason for work in found.values() if work.state == "done"} == {None}
    if url.startswith("postgresql"):
        # One statement for all, not one each: on PostgreSQL each statement leaves tally rows to be added up.
        assert look.one("SELECT max(id) FROM tallies") < 50


def test_events_are_written_with_the_commit_or_not_at_all(state: State) -> None:
    batch = claimed(state, "a")
    with pytest.raises(NotReconciled):
        state.commit(batch, [], counts=counts(batch), catalogue_version=1, events=[event("lost")])
    assert state.pending_events(10) == []
    state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1, events=[event("kept")])
    assert [pending.event_id for pending in state.pending_events(10)] == ["kept"]


def test_a_clock_without_a_zone_is_refused(open_state: Open, clock: Clock) -> None:
    state = open_state()
    clock.now = datetime(2026, 11, 22)
    with pytest.raises(Exception, match="without a zone"):
        state.register(registration([candidate("a")]))
    clock.now = datetime(2026, 11, 22, tzinfo=UTC)

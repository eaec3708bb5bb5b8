"""The report and the look-ups show the actual state."""

from datetime import timedelta

import pytest

from cropline.state import ReasonCount, State
from tests.contract.state.build import (
    NOON,
    RECIPES,
    Clock,
    Look,
    candidate,
    counts,
    event,
    ids,
    outcomes,
    registration,
)  # fmt: skip
from tests.contract.state.conftest import Open

EMPTY = {"pending": 0, "claimed": 0, "done": 0, "failed": 0, "dead": 0, "quarantined": 0}


def test_an_empty_state_reports_nothing(state: State) -> None:
    report = state.report()
    assert report.images == EMPTY
    assert (report.backlog, report.oldest_pending_since, report.oldest_pending_age) == (0, None, None)
    assert (report.sources, report.batches, report.outbox, report.reasons) == ([], [], 0, [])


def test_every_part_is_there(open_state: Open, clock: Clock) -> None:
    state = open_state(max_attempts=2, backoff_s=10, lease_s=60)
    state.register(registration([candidate(name) for name in ("done", "flaky", "hopeless")]))
    for reasons in ({"flaky": "timeout", "hopeless": "http_5xx"}, {"flaky": "timeout", "hopeless": "http_5xx"}):
        clock.forward(minutes=1)
        batch = state.claim(limit=5, owner="flow-run-1")
        assert batch is not None
        state.commit(batch, outcomes(batch, reasons=reasons), counts=counts(batch), catalogue_version=3)
        reasons.pop("flaky")
    clock.forward(minutes=1)
    state.register(registration([candidate("bad", state="quarantined", reason="url_known")], manifest="m2"))
    state.register(registration([candidate("claimed")], manifest="m3"))
    held = state.claim(limit=5, owner="flow-run-2")
    state.register(registration([candidate("waiting")], manifest="m4"))
    waiting_since = clock.now
    state.enqueue_events([event("e")])
    clock.forward(minutes=5)
    report = state.report()
    assert report.at == clock.now
    assert report.images == EMPTY | {"done": 1, "dead": 2, "quarantined": 1, "claimed": 1, "pending": 1}
    assert report.backlog == 1
    assert (report.oldest_pending_since, report.oldest_pending_age) == (waiting_since, timedelta(minutes=5))
    (source,) = report.sources
    assert (source.source, source.cursor, source.lag) == ("cams", NOON.isoformat(), clock.now - NOON)
    assert [(batch.state, batch.owner) for batch in report.batches] == [
        ("open", "flow-run-2"),
        ("committed", "flow-run-1"),
        ("committed", "flow-run-1"),
    ]
    assert held is not None
    assert report.batches[0].batch_id == held.batch_id
    assert (report.open_batches, report.stale_batches) == (1, 1)
    assert (report.outbox, report.oldest_event_at) == (1, waiting_since)
    assert set(report.reasons) == {
        ReasonCount("dead", "timeout", 1),
        ReasonCount("dead", "http_5xx", 1),
        ReasonCount("quarantined", "url_known", 1),
    }


def test_only_the_last_batches_are_listed(state: State, clock: Clock) -> None:
    made = []
    for n in range(4):
        state.register(registration([candidate(f"i{n}")], manifest=f"m{n}"))
        batch = state.claim(limit=1, owner="test")
        assert batch is not None
        made.append(batch.batch_id)
        clock.forward(seconds=1)
    assert [batch.batch_id for batch in state.report(last_batches=2).batches] == [made[3], made[2]]


def test_the_works_of_an_image_are_told_by_profile(state: State) -> None:
    state.register(registration([candidate("a", profile=p, manifest_row=4) for p in RECIPES]))
    batch = state.claim(limit=1, owner="test", profiles=["small"])
    assert batch is not None
    default, small = state.image("cams", "a")
    assert (default.profile, default.state, default.batch_id) == ("default", "pending", None)
    assert (small.profile, small.state, small.batch_id) == ("small", "claimed", batch.batch_id)
    assert (small.manifest, small.manifest_row, small.boxes) == ("manifests/1.parquet", 4, 3)
    assert state.image("cams", "nobody") == []


def test_an_unknown_batch_is_none(state: State) -> None:
    assert state.batch("nothing") is None


class TestReplay:
    """Find failed work and requeue it."""

    @pytest.fixture
    def ended(self, open_state: Open, clock: Clock) -> State:
        """dead1 and dead2 of two stores, failed, done, quarantined, claimed and pending."""
        state = open_state(max_attempts=1)
        state.register(
            registration(
                [
                    candidate("dead1", at=10, store_id="north"),
                    candidate("dead2", at=20, store_id="south"),
                    candidate("done", at=30),
                ]
            )
        )
        self.end(state, {"dead1": "timeout", "dead2": "http_5xx"})
        patient = open_state(max_attempts=9)
        patient.register(registration([candidate("failed", at=40)], manifest="m2"))
        self.end(patient, {"failed": "timeout"})
        state.register(
            registration([candidate("bad", at=50, state="quarantined"), candidate("claimed", at=60)], manifest="m3")
        )
        state.claim(limit=5, owner="test")
        state.register(registration([candidate("pending", at=70)], manifest="m4"))
        return state

    def end(self, state: State, reasons: dict[str, str]) -> None:
        batch = state.claim(limit=5, owner="test")
        assert batch is not None
        state.commit(batch, outcomes(batch, reasons=reasons), counts=counts(batch), catalogue_version=1)

    def test_failed_and_dead_are_revived_and_nothing_else_is_touched(self, ended: State, look: Look) -> None:
        assert ended.requeue() == 3
        assert look.states() == {
            "dead1": "pending",
            "dead2": "pending",
            "failed": "pending",
            "done": "done",
            "bad": "quarantined",
            "claimed": "claimed",
            "pending": "pending",
        }
        assert look.rows("SELECT DISTINCT attempts, reason, retry_at FROM images WHERE image_id LIKE 'dead%'") == [
            (0, None, None)
        ]
        assert ids(ended.claim(limit=9, owner="test")) == ["dead1", "dead2", "failed", "pending"]

    def test_filters_choose(self, ended: State) -> None:
        found = {
            "dead": ended.find_images(states=["dead"]),
            "timeouts": ended.find_images(reasons=["timeout"]),
            "north": ended.find_images(stores=["north"]),
            "span": ended.find_images(since=NOON + timedelta(seconds=20), until=NOON + timedelta(seconds=40)),
            "nowhere": ended.find_images(sources=["elsewhere"]),
            "one": ended.find_images(limit=1),
            "of a profile": ended.find_images(profiles=["small"]),
        }
        assert {name: [work.image_id for work in works] for name, works in found.items()} == {
            "dead": ["dead2", "dead1"],
            "timeouts": ["failed", "dead1"],
            "north": ["dead1"],
            "span": ["done", "dead2"],
            "nowhere": [],
            "one": ["pending"],
            "of a profile": [],
        }

    def test_a_revival_with_filters_revives_what_they_find(self, ended: State, look: Look) -> None:
        assert ended.requeue(states=["dead"], stores=["north"], reasons=["timeout"]) == 1
        assert look.states()["dead1"] == "pending"
        assert look.states()["dead2"] == "dead"
        assert ended.requeue(states=["dead"], reasons=["http_404"]) == 0

    def test_done_work_is_revived_only_when_asked_for(self, ended: State, look: Look) -> None:
        assert ended.requeue(states=["done"], sources=["cams"], profiles=["default"]) == 1
        assert look.states()["done"] == "pending"

    @pytest.mark.parametrize("states", [[], ["claimed"], ["quarantined"], ["pending"], ["dead", "claimed"]])
    def test_what_is_in_progress_or_quarantined_cannot_be_requeued(
        self, ended: State, look: Look, states: list
    ) -> None:  # type: ignore[type-arg]
        before = look.everything()
        with pytest.raises(ValueError, match="can be requeued"):
            ended.requeue(states=states)
        assert look.everything() == before

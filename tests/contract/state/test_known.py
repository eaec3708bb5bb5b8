"""The same work announced again: other metadata rewrites rows, and a newer address is read next."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cropline.core.errors import StaleLease
from cropline.state import Batch, Event, Registered, State
from tests.contract.state.build import NOON, Clock, Look, candidate, counts, ids, outcomes, registration

OTHER = {"metadata": "m2", "store_id": "store-2", "camera_id": "cam-2"}


def announce(state: State, *candidates: dict[str, Any], manifest: str, **values: Any) -> Registered:
    rows = [{"metadata": "m1"} | row for row in candidates]
    return state.register(registration(rows, manifest=manifest, **values))


def claim(state: State) -> Batch:
    batch = state.claim(limit=100, owner="test")
    assert batch is not None
    return batch


def finish(state: State, batch: Batch, reasons: dict[str, str] | None = None, **values: Any) -> None:
    state.commit(batch, outcomes(batch, reasons=reasons, **values), counts=counts(batch), catalogue_version=1)


def done(state: State, *names: str, reasons: dict[str, str] | None = None) -> None:
    announce(state, *(candidate(name) for name in names), manifest="first")
    finish(state, claim(state), reasons)


def test_corrected_metadata_makes_done_work_pending_for_its_rows_alone(state: State, look: Look) -> None:
    done(state, "a", "b")
    told = announce(state, candidate("a", **OTHER), candidate("b"), manifest="second")
    assert told == Registered(new=0, changed=0, known=1, quarantined=0, already=False, corrected=1)
    assert look.states() == {"a": "pending", "b": "done"}
    batch = claim(state)
    assert (ids(batch), batch.rewriting) == (["a"], frozenset({("a", "default")}))
    assert batch.images["manifest"].to_pylist() == ["second"]
    assert state.being_rewritten("cams") == {"a"}
    assert batch.superseding == [("cams", "a", "default")]
    finish(state, batch)
    (work,) = state.image("cams", "a")
    assert (work.state, work.store_id, work.camera_id) == ("done", "store-2", "cam-2")
    assert state.being_rewritten("cams") == set()
    assert announce(state, candidate("a", **OTHER), manifest="third").corrected == 0
    assert not state.has_work()


def test_the_counts_of_a_manifest_that_was_registered_before_are_those_of_then(state: State) -> None:
    done(state, "a")
    first = announce(state, candidate("a", **OTHER), manifest="second")
    again = announce(state, candidate("a", **OTHER), manifest="second")
    assert (again.corrected, again.already) == (first.corrected, True) == (1, True)


@pytest.mark.parametrize(("seconds", "corrected"), [(-1, 0), (0, 1), (1, 1)])
def test_an_older_update_never_overwrites_metadata(state: State, seconds: int, corrected: int) -> None:
    done(state, "a")
    late = candidate("a", updated_at=NOON + timedelta(seconds=seconds), **OTHER)
    assert announce(state, late, manifest="second").corrected == corrected


def test_an_update_that_changed_nothing_still_outdates_those_before_it(state: State) -> None:
    done(state, "a")
    announce(state, candidate("a", updated_at=NOON + timedelta(hours=2)), manifest="second")
    late = candidate("a", updated_at=NOON + timedelta(hours=1), **OTHER)
    assert announce(state, late, manifest="third").corrected == 0
    assert not state.has_work()


def test_rows_of_an_earlier_version_learn_their_metadata_without_work(state: State, look: Look) -> None:
    state.register(registration([candidate("a"), candidate("b")], manifest="first"))  # without metadata, as before
    finish(state, claim(state))
    told = announce(state, candidate("a"), candidate("b", **OTHER), manifest="second")
    assert (told.known, told.corrected) == (1, 1)
    assert look.states() == {"a": "done", "b": "pending"}
    assert announce(state, candidate("a", metadata="m2"), manifest="third").corrected == 1


def test_a_correction_while_a_batch_holds_the_work_is_made_after_it(state: State, look: Look) -> None:
    announce(state, candidate("a"), candidate("b"), manifest="first")
    batch = claim(state)
    assert announce(state, candidate("a", **OTHER), manifest="second").corrected == 1
    committed = state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
    assert (committed.done, committed.pending_again) == (1, 1)
    after = claim(state)
    assert after.rewriting == frozenset({("a", "default")})
    finish(state, after)
    assert look.states() == {"a": "done", "b": "done"}


def test_a_correction_of_failed_work_costs_no_try(state: State, clock: Clock) -> None:
    done(state, "a", reasons={"a": "timeout"})
    announce(state, candidate("a", **OTHER), manifest="second")
    batch = claim(state)
    assert batch.rewriting == frozenset({("a", "default")})
    finish(state, batch, {"a": "timeout"})
    (work,) = state.image("cams", "a")
    assert (work.state, work.reason, work.attempts) == ("failed", "timeout", 1)
    clock.forward(hours=24)
    assert claim(state).rewriting == frozenset()  # a separate attempt


def test_what_waits_to_be_cut_is_cut_with_the_newest_metadata_and_address(state: State) -> None:
    announce(state, candidate("a"), manifest="first")
    assert announce(state, candidate("a", **OTHER), manifest="second").corrected == 1
    batch = claim(state)
    assert (batch.images["manifest"].to_pylist(), batch.rewriting) == (["second"], frozenset())
    finish(state, batch)
    assert not state.has_work()


def test_a_retry_reads_the_newest_address(state: State, clock: Clock) -> None:
    done(state, "a", "b", reasons={"a": "http_5xx"})
    assert announce(state, candidate("a"), candidate("b"), manifest="second").known == 2
    clock.forward(hours=24)
    batch = claim(state)
    assert (ids(batch), batch.images["manifest"].to_pylist()) == (["a"], ["second"])
    assert batch.rewriting == frozenset()
    assert state.image("cams", "b")[0].manifest == "first"  # a done item needs no address


def test_a_batch_that_is_resumed_reads_the_newest_address(state: State, clock: Clock) -> None:
    announce(state, candidate("a"), candidate("b"), manifest="first")
    batch = claim(state)
    announce(state, candidate("a"), candidate("b", **OTHER), manifest="second")
    state.release(batch, "killed")
    resumed = claim(state)
    # Not b's: the catalogue may hold its rows as they were claimed.
    assert (resumed.batch_id, resumed.images["manifest"].to_pylist()) == (batch.batch_id, ["second", "first"])


def test_a_new_version_ends_a_rewriting(state: State) -> None:
    done(state, "a")
    announce(state, candidate("a", **OTHER), manifest="second")
    announce(state, candidate("a", version="v2", at=9), manifest="third")
    assert claim(state).rewriting == frozenset()


def test_a_replay_of_rewriting_work_cuts_it(state: State) -> None:
    done(state, "a")
    announce(state, candidate("a", **OTHER), manifest="second")
    finish(state, claim(state))
    state.requeue(states=["done"])
    assert claim(state).rewriting == frozenset()


def test_a_fresh_address_moves_what_is_claimed_and_what_is_wanted(state: State, clock: Clock) -> None:
    announce(state, candidate("a"), candidate("b", manifest_row=1), manifest="first")
    batch = claim(state)
    announce(state, candidate("b", manifest_row=5), manifest="second")
    state.readdress(batch, {("first", 0): ("fresh", 0), ("first", 1): ("fresh", 1)})
    assert [(w.manifest, w.manifest_row) for n in "ab" for w in state.image("cams", n)] == [("fresh", 0), ("second", 5)]
    state.release(batch, "killed")
    assert claim(state).attempt == 2
    with pytest.raises(StaleLease):
        state.readdress(batch, {("fresh", 0): ("again", 0)})


def test_only_undone_work_whose_address_is_another_needs_it(state: State) -> None:
    digests: dict[str, Any] = {"item_digests": [(f"d-{n}", NOON) for n in "ab"], "urls": {"d-a": "u1", "d-b": "u1"}}
    announce(state, candidate("a"), candidate("b"), manifest="first", **digests)
    fresh = {"d-a": ("a", "u2"), "d-b": ("b", "u1")}
    assert state.readdressed("cams", fresh) == {"d-a"}
    announce(state, candidate("a"), manifest="second", item_digests=[("d-a", NOON)], urls={"d-a": "u2"})
    assert state.readdressed("cams", fresh) == set()
    finish(state, claim(state))
    assert state.readdressed("cams", {"d-a": ("a", "u3"), "d-b": ("b", "u3")}) == set()


def test_what_ended_badly_is_counted_by_state_and_reason(state: State) -> None:
    from cropline.state.requeue import WorkItemFilter

    done(state, "a", "b", "c", reasons={"a": "timeout"})
    announce(state, candidate("d", at=1), manifest="second")
    finish(state, claim(state), permanent_reason="http_4xx")
    found = state.endings(WorkItemFilter(sources=["cams"]))
    assert {(entry.state, entry.reason, entry.works) for entry in found} == {
        ("failed", "timeout", 1),
        ("done", "http_4xx", 1),
    }
    assert {work.image_id for work in state.each_image(WorkItemFilter(states=["done"]))} == {"b", "c", "d"}


def test_events_of_a_correction_are_enqueued_with_it(state: State) -> None:
    done(state, "a")
    announce(state, candidate("a", **OTHER), manifest="second", events=[Event("e", "{}")])
    assert [event.event_id for event in state.pending_events(10)] == ["e"]

"""Erasures in the state: tombstones keep images away, and batches that hold such images stay intact."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cropline.core.errors import StaleLease
from cropline.state import State
from tests.contract.state.build import NOON, Clock, Look, candidate, counts, ids, outcomes, registration


def _registered(state: State) -> None:
    rows = [candidate("a", at=1), candidate("b", at=2, store_id="store-2"), candidate("c", at=3)]
    state.register(registration(rows))


def _forget(state: State, *images: str) -> str:
    return state.begin_erasure("cams", f"{images}", image_ids=images).erasure_id


def test_a_forgotten_image_leaves_the_queue_and_is_never_registered_again(state: State, look: Look) -> None:
    _registered(state)
    erasure = _forget(state, "a", "never-seen")
    assert state.delete_unclaimed_items(erasure) == 1
    assert state.images_to_erase(erasure, 10) == ["a", "never-seen"]
    again = [candidate("a", version="v2", at=9), candidate("never-seen", at=9), candidate("d", at=9)]
    registered = state.register(registration(again, manifest="manifests/2.parquet"))
    assert (registered.new, registered.changed, registered.known) == (1, 0, 2)
    assert look.states() == {"b": "pending", "c": "pending", "d": "pending"}
    assert state.report().images["pending"] == 3
    assert state.forgotten("cams", ["a", "b", "never-seen"]) == {"a", "never-seen"}
    assert state.forgotten("other", ["a"]) == set()


def test_a_bad_version_of_a_forgotten_image_is_not_quarantined_either(state: State, look: Look) -> None:
    _forget(state, "a")
    state.register(registration([candidate("a", state="quarantined", reason="no_url")]))
    assert look.states() == {}


def test_an_image_in_work_is_left_to_its_batch_and_leaves_with_it(state: State, look: Look) -> None:
    _registered(state)
    batch = state.claim(limit=2, owner="me")
    assert ids(batch) == ["b", "c"]
    assert batch is not None
    erasure = _forget(state, "a", "b")
    assert state.delete_unclaimed_items(erasure) == 1
    assert look.states() == {"b": "claimed", "c": "claimed"}
    assert (state.images_to_erase(erasure, 10), state.images_in_progress(erasure)) == (["a"], 1)
    state.mark_erased(erasure, ["a"])
    state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
    assert look.states() == {"c": "done"}
    assert (state.images_to_erase(erasure, 10), state.images_in_progress(erasure)) == (["b"], 0)
    assert state.report().images["done"] == 1


def test_an_image_that_fails_while_it_is_forgotten_is_not_tried_again(state: State, look: Look, clock: Clock) -> None:
    state.register(registration([candidate("a")]))
    batch = state.claim(limit=1, owner="me")
    assert batch is not None
    _forget(state, "a")
    failed = outcomes(batch, reasons={"a": "http_5xx"})
    state.commit(batch, failed, counts=counts(batch), catalogue_version=1)
    clock.forward(days=1)
    assert look.states() == {}
    assert not state.has_work("cams")


def test_a_resumed_batch_keeps_its_forgotten_images(state: State, clock: Clock) -> None:
    _registered(state)
    assert state.claim(limit=3, owner="dead") is not None
    erasure = _forget(state, "a")
    state.delete_unclaimed_items(erasure)
    clock.forward(hours=1)
    assert ids(state.claim(limit=3, owner="me")) == ["a", "b", "c"]


def test_stores_and_days_name_the_images_that_are_known(state: State) -> None:
    _registered(state)
    one = state.begin_erasure("cams", "store", stores=["store-2"])
    assert state.images_in_progress(one.erasure_id) == 1
    two = state.begin_erasure("cams", "before", until=NOON + timedelta(seconds=3))
    assert state.images_in_progress(one.erasure_id) == 0, "the last erasure that names an image has it"
    state.delete_unclaimed_items(two.erasure_id)
    assert state.images_to_erase(two.erasure_id, 10) == ["a", "b"]


def test_the_same_selection_goes_on_until_it_is_at_its_end(state: State) -> None:
    _registered(state)
    first = state.begin_erasure("cams", "a", image_ids=["a"])
    assert not first.resumed
    again = state.begin_erasure("cams", "a", image_ids=["a"])
    assert (again.erasure_id, again.resumed) == (first.erasure_id, True)
    assert [erasure.erasure_id for erasure in state.unfinished_erasures("cams")] == [first.erasure_id]
    ended = state.end_erasure(first.erasure_id)
    assert state.end_erasure(first.erasure_id) == ended
    assert state.unfinished_erasures("cams") == []
    assert not state.begin_erasure("cams", "a", image_ids=["a"]).resumed


def test_hostile_ids_are_forgotten_as_they_are(state: State) -> None:
    hostile = ["o'b", "\\", "%", "\u2028", "x" * 900]
    state.register(registration([candidate(name) for name in hostile] + [candidate("good")]))
    erasure = _forget(state, *hostile)
    assert state.delete_unclaimed_items(erasure) == len(hostile)
    assert state.images_to_erase(erasure, 10) == sorted(hostile, key=str.encode)


def test_receipts_of_one_second_keep_their_order(state: State, clock: Clock) -> None:
    begun = []
    for image in "abcdefgh":
        erasure = _forget(state, image)
        state.delete_unclaimed_items(erasure)
        state.end_erasure(erasure)
        begun.append(erasure)
        clock.forward(milliseconds=1)
    assert begun == sorted(begun)
    assert len(set(begun)) == len(begun)


def test_one_at_a_time_erases_of_a_source(state: State, clock: Clock) -> None:
    _registered(state)
    state.begin_erasure("roof", "a", image_ids=["a"])
    assert state.acquire_erasure_lock("cams", "one")
    assert not state.acquire_erasure_lock("cams", "two")
    assert state.acquire_erasure_lock("roof", "two"), "sources do not wait for each other"
    state.release_erasure_lock("cams", "two")
    assert not state.acquire_erasure_lock("cams", "two"), "only its holder lets go of it"
    state.release_erasure_lock("cams", "one")
    assert state.acquire_erasure_lock("cams", "two")


def test_an_erasure_whose_lease_expired_is_taken_over_and_cannot_go_on(state: State, clock: Clock) -> None:
    _registered(state)
    assert state.acquire_erasure_lock("cams", "dead")
    half = state.lease / 2
    clock.forward(seconds=half.total_seconds())
    state.renew_erasure_lock("cams", "dead")
    clock.forward(seconds=half.total_seconds() + 1)
    assert not state.acquire_erasure_lock("cams", "me"), "it was heard of"
    clock.forward(seconds=half.total_seconds())
    assert state.acquire_erasure_lock("cams", "me")
    with pytest.raises(StaleLease):
        state.renew_erasure_lock("cams", "dead")

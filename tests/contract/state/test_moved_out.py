"""Photos that ended long ago leave the table, come back as they were, and are never registered unseen."""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import Any

import pytest

from cropline.state import ImageState, State, moved_out
from cropline.state.moved_out import MovedOut
from tests.contract.state.build import Clock, Look, candidate, counts, outcomes, registration
from tests.contract.state.processes import die_moving_photos, run_killed

_DECIDES = (
    "image_id, profile, state, reason, attempts, retry_at, profile_hash, version, fingerprint, manifest, manifest_row,"
    " boxes, captured_at, updated_at, store_id, camera_id, metadata, batch_id, committed_batch, rows_only"
)


def _done(state: State, *candidates: dict[str, Any], manifest: str, **values: Any) -> None:
    boxes = candidates[0]["boxes"]
    state.register(registration(candidates, manifest=manifest))
    while (batch := state.claim(limit=100, owner="run")) is not None:
        state.commit(batch, outcomes(batch, **values), counts=counts(batch, boxes), catalogue_version=1)


def _all_old(state: State, clock: Clock, days: float = 10) -> dict[str, list[ImageState]]:
    found: dict[str, list[ImageState]] = {}
    for source, items in state.old_photos(clock.now - timedelta(days=days)):
        for item in items:
            found.setdefault(f"{source}/{item.image_id}", []).append(item)
    return found


def _move_all(state: State, clock: Clock) -> list[ImageState]:
    items = [item for part in _all_old(state, clock).values() for item in part]
    assert state.move_out("cams", items) == len({item.image_id for item in items})
    return items


def test_only_whole_photos_that_are_done_without_a_failure_may_leave(state: State, clock: Clock) -> None:
    _done(state, candidate("old"), candidate("two"), candidate("two", profile="small"), manifest="m1")
    _done(state, candidate("half"), manifest="m2")
    _done(state, candidate("hurt"), manifest="m3", permanent_reason="box_outside")
    _done(state, candidate("bare", boxes=0), manifest="m4")
    _done(state, candidate("down"), manifest="m5", reasons={"down": "http_5xx"})
    clock.forward(days=11)
    state.register(registration([candidate("half", profile="small"), candidate("new")], manifest="m6"))
    found = _all_old(state, clock)
    assert sorted(found) == ["cams/old", "cams/two"]
    assert [item.profile for item in found["cams/two"]] == ["default", "small"]
    assert _all_old(state, clock, days=12) == {}


def test_a_photo_that_left_is_counted_known_and_comes_back_as_it_was(state: State, clock: Clock, look: Look) -> None:
    _done(state, candidate("a"), candidate("a", profile="small"), candidate("b"), manifest="m1")
    before = look.rows(f"SELECT {_DECIDES} FROM images ORDER BY 1, 2")
    clock.forward(days=11)
    items = _move_all(state, clock)
    assert look.rows("SELECT * FROM images") == []
    report = state.report()
    assert (report.moved_out, report.images["done"]) == (2, 0)
    assert report.moved_before == clock.now - timedelta(days=11)
    assert dict(state.metrics(window=timedelta(hours=1)).moved_out) == {"cams": 2}
    assert state.known_images("cams", ["a", "b", "c"]) == {"a", "b"}
    moved = state.moved_photos("cams", ["a", "c"])
    assert {name: told.updated_at for name, told in moved.found.items()} == {"a": items[0].updated_at}
    assert moved.found["a"].batch_id == items[0].committed_batch
    assert state.moved_photos("other", ["a"]).found == {}
    state.bring_back("cams", items)
    state.bring_back("cams", items)
    assert look.rows(f"SELECT {_DECIDES} FROM images ORDER BY 1, 2") == before
    assert (state.report().moved_out, state.report().images["done"]) == (0, 3)
    assert state.moved_photos("cams", ["a", "b"]).found == {}


def test_a_photo_that_changed_after_it_was_read_stays(state: State, clock: Clock, look: Look) -> None:
    _done(state, candidate("a"), candidate("b"), candidate("c"), manifest="m1")
    clock.forward(days=11)
    items = [item for part in _all_old(state, clock).values() for item in part]
    state.register(registration([candidate("a", version="v2", at=9), candidate("b", profile="small")], manifest="m2"))
    assert state.move_out("cams", items) == 1
    kept = look.rows("SELECT image_id, profile, state FROM images ORDER BY 1, 2")
    assert kept == [("a", "default", "pending"), ("b", "default", "done"), ("b", "small", "pending")]
    assert state.move_out("cams", items) == 0, "a second time changes nothing"
    assert state.report().moved_out == 1


def test_a_registration_never_takes_a_photo_that_left_for_a_new_one(state: State, clock: Clock, look: Look) -> None:
    _done(state, candidate("a"), manifest="m1")
    clock.forward(days=11)
    items = _move_all(state, clock)
    before = look.everything()
    with pytest.raises(MovedOut):
        state.register(registration([candidate("a"), candidate("b")], manifest="m2"))
    assert look.everything() == before
    assert state.register(registration([candidate("b")], manifest="m3")).new == 1
    moves = state.moved_photos("cams", []).moves
    state.bring_back("cams", items)
    again = state.register(registration([candidate("a")], manifest="m4", moves=moves))
    assert (again.new, again.changed, again.known) == (0, 0, 1)


def test_a_photo_that_the_catalogue_lost_is_registered_as_new(state: State, clock: Clock) -> None:
    _done(state, candidate("a"), manifest="m1")
    clock.forward(days=11)
    _move_all(state, clock)
    assert state.register(registration([candidate("a")], manifest="m2", unknown={"a"})).new == 1


def test_of_photos_with_one_hash_the_first_leaves_and_is_not_forgotten_for_the_others(
    state: State, clock: Clock, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moved_out, "photo_hash", lambda _, image_id: {"a": 1, "b": 2, "c": 2}[image_id])
    _done(state, candidate("a"), candidate("b"), candidate("c"), manifest="m1")
    before = look.rows(f"SELECT {_DECIDES} FROM images ORDER BY 1, 2")
    clock.forward(days=11)
    items = {part[0].image_id: part for part in _all_old(state, clock).values()}
    assert state.move_out("cams", [item for part in items.values() for item in part]) == 2
    assert look.rows("SELECT image_id FROM images") == [("c",)]
    assert state.move_out("cams", items["c"]) == 0
    # Announced again, each is found by its hash, and by its rows in the catalogue.
    state.bring_back("cams", items["c"])
    assert set(state.moved_photos("cams", ["b"]).found) == {"b"}
    state.bring_back("cams", [*items["a"], *items["b"]])
    assert look.rows(f"SELECT {_DECIDES} FROM images ORDER BY 1, 2") == before
    assert state.report().moved_out == len(look.rows("SELECT * FROM moved_out")) == 0


def test_an_erased_photo_does_not_come_back_and_is_forgotten_here_too(state: State, clock: Clock, look: Look) -> None:
    _done(state, candidate("a"), candidate("b"), manifest="m1")
    clock.forward(days=11)
    items = _move_all(state, clock)
    erasure = state.begin_erasure("cams", '{"images":["a","b"]}', image_ids=["a", "b"])
    state.bring_back("cams", [item for item in items if item.image_id == "a"])
    assert look.rows("SELECT * FROM images") == []
    state.mark_erased(erasure.erasure_id, ["a", "b"])
    assert look.rows("SELECT * FROM moved_out") == []
    assert state.report().moved_out == 0
    assert state.forgotten("cams", ["a", "b"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("function", "when", "left"),
    [
        ("_remember", "before", 0),  # within the transaction: the work items are deleted
        pytest.param("_remember", "after", 0, marks=pytest.mark.slow),
        pytest.param("_move_out", "after", 2, marks=pytest.mark.slow),
        pytest.param("drop", "before", 2, marks=pytest.mark.slow),  # within the one that brings photos back
        pytest.param("drop", "after", 2, marks=pytest.mark.slow),
    ],
)
def test_a_killed_move_leaves_all_photos_where_they_were_or_all_moved(
    state: State, clock: Clock, look: Look, url: str, function: str, when: str, left: int
) -> None:
    _done(state, candidate("a"), candidate("a", profile="small"), candidate("b"), manifest="m1")
    before = look.rows(f"SELECT {_DECIDES} FROM images ORDER BY 1, 2")
    clock.forward(days=11)
    items = [item for part in _all_old(state, clock).values() for item in part]
    if function == "drop":
        assert state.move_out("cams", items) == 2
    assert run_killed(die_moving_photos, url, function, when, items) == -signal.SIGKILL
    assert look.rows(f"SELECT {_DECIDES} FROM images ORDER BY 1, 2") == (before if left == 0 else [])
    assert state.report().moved_out == len(look.rows("SELECT photo FROM moved_out")) == left
    # The next run ends it.
    assert state.move_out("cams", items) == 2 - left
    assert (look.rows("SELECT * FROM images"), state.report().moved_out) == ([], 2)
    state.bring_back("cams", items)
    assert look.rows(f"SELECT {_DECIDES} FROM images ORDER BY 1, 2") == before
    assert state.report().moved_out == 0

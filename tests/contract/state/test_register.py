"""Registering: what becomes work, what does not, and that it happens once and completely."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from cropline.core.errors import StateError
from cropline.state import Registered, State
from tests.contract.state.build import (
    NOON,
    Clock,
    Look,
    candidate,
    counts,
    event,
    ids,
    outcomes,
    registration,
)
from tests.contract.state.conftest import Open


def finish(state: State, *, reasons: dict[str, str] | None = None) -> list[str]:
    """Claim everything and commit it."""
    batch = state.claim(limit=1_000, owner="test")
    assert batch is not None
    state.commit(batch, outcomes(batch, reasons=reasons), counts=counts(batch), catalogue_version=1)
    return ids(batch)


def test_new_images_become_pending(state: State, look: Look) -> None:
    registered = state.register(registration([candidate("a"), candidate("b")]))
    assert registered == Registered(new=2, changed=0, known=0, quarantined=0, already=False)
    assert look.states() == {"a": "pending", "b": "pending"}


def test_the_same_manifest_twice_changes_nothing(state: State, look: Look, clock: Clock) -> None:
    given: dict[str, Any] = {"events": [event("e")], "item_digests": [("d", NOON)]}
    first = state.register(registration([candidate("a"), candidate("b", state="quarantined")], **given))
    before = look.everything()
    clock.forward(hours=1)
    second = state.register(registration([candidate("a"), candidate("b", state="quarantined")], **given))
    assert second == Registered(first.new, first.changed, first.known, first.quarantined, already=True)
    assert look.everything() == before


def test_the_same_work_in_another_manifest_is_known(state: State, look: Look) -> None:
    state.register(registration([candidate("a")]))
    finish(state)
    before = look.rows("SELECT * FROM images")
    again = state.register(registration([candidate("a")], manifest="manifests/2.parquet"))
    assert again == Registered(new=0, changed=0, known=1, quarantined=0, already=False)
    assert look.rows("SELECT * FROM images") == before


def test_a_changed_fingerprint_is_wanted_again(state: State, look: Look) -> None:
    state.register(registration([candidate("a"), candidate("b")]))
    finish(state)
    changed = state.register(
        registration([candidate("a", version="v2", at=5), candidate("b", at=5)], manifest="manifests/2.parquet")
    )
    assert changed == Registered(new=0, changed=1, known=1, quarantined=0, already=False)
    assert look.states() == {"a": "pending", "b": "done"}
    ((manifest, fingerprint),) = look.rows("SELECT manifest, fingerprint FROM images WHERE image_id = 'a'")
    assert (manifest, fingerprint) == ("manifests/2.parquet", "a/v2/default")


def test_an_older_version_that_arrives_late_does_not_replace_a_newer_one(state: State, look: Look) -> None:
    state.register(registration([candidate("a", version="new", at=60)]))
    late = state.register(registration([candidate("a", version="old", at=0)], manifest="manifests/0.parquet"))
    assert late.known == 1
    assert look.one("SELECT version FROM images") == "new"


def test_versions_without_a_time_replace_each_other_as_they_come(state: State, look: Look) -> None:
    state.register(registration([candidate("a", version="1", updated_at=None)]))
    state.register(registration([candidate("a", version="2", updated_at=None)], manifest="m2"))
    state.register(registration([candidate("a", version="3", at=9)], manifest="m3"))
    state.register(registration([candidate("a", version="4", updated_at=None)], manifest="m4"))
    assert look.one("SELECT version FROM images") == "4"


def test_a_changed_recipe_is_wanted_again_though_the_photo_is_the_same(state: State, look: Look) -> None:
    state.register(registration([candidate("a")]))
    finish(state)
    other = registration(
        [candidate("a", profile_hash="hash-2", fingerprint="a/v1/hash-2")],
        manifest="m2",
        profiles={"default": ("hash-2", '{"quality":50}')},
    )
    assert state.register(other).changed == 1
    batch = state.claim(limit=1, owner="test")
    assert batch is not None
    (work,) = batch.images.to_pylist()[0]["work"]
    assert work == {
        "profile": "default",
        "profile_hash": "hash-2",
        "fingerprint": "a/v1/hash-2",
        "recipe": '{"quality":50}',
        "only": None,
    }
    assert look.states() == {"a": "claimed"}


def test_an_image_listed_twice_in_one_manifest_is_one_work_of_its_newest_version(state: State, look: Look) -> None:
    rows = [
        candidate("a", version="2", at=20, manifest_row=1),
        candidate("a", version="1", at=10, manifest_row=0),
        candidate("a", version="3", at=30, manifest_row=2, state="quarantined", reason="boxes_in_range"),
    ]
    assert state.register(registration(rows)) == Registered(new=1, changed=0, known=1, quarantined=1, already=False)
    assert look.rows("SELECT version, state, manifest_row FROM images") == [("2", "pending", 1)]


def test_counts_are_those_of_the_rows_handed_in(state: State) -> None:
    state.register(registration([candidate(f"i{n}") for n in range(10)]))
    rows = [candidate(f"i{n}") for n in range(5)]
    rows += [candidate(f"i{n}", version="v2", at=1) for n in range(5, 10)]
    rows += [candidate(f"i{n}") for n in range(10, 30)]
    rows += [candidate(f"bad{n}", state="quarantined", reason="x") for n in range(3)]
    registered = state.register(registration(rows, manifest="m2"))
    assert registered == Registered(new=20, changed=5, known=5, quarantined=3, already=False)


def test_candidates_may_come_in_many_tables(state: State, look: Look) -> None:
    def tables() -> Iterator[pa.Table]:
        for n in range(7):
            yield registration([candidate(f"i{n}-{m}") for m in range(n)]).rows

    assert state.register(registration([], rows=tables())).new == 21
    assert look.one("SELECT count(*) FROM images") == 21


def test_a_candidate_of_another_source_is_refused_and_nothing_is_registered(state: State, look: Look) -> None:
    before = look.everything()
    with pytest.raises(ValueError, match="another source"):
        state.register(registration([candidate("a"), candidate("b", source="others")]))
    assert look.everything() == before


def test_a_registration_that_fails_half_way_leaves_nothing(state: State, look: Look) -> None:
    def broken() -> Iterator[pa.Table]:
        yield registration([candidate("a")]).rows
        raise RuntimeError("the manifest could not be read further")

    before = look.everything()
    with pytest.raises(RuntimeError):
        state.register(registration([], rows=broken(), item_digests=[("d", NOON)], events=[event("e")]))
    assert look.everything() == before
    assert state.register(registration([candidate("a")])).new == 1


class TestQuarantine:
    """Bad versions are kept apart and never block good ones."""

    def test_an_unknown_image_is_quarantined_with_its_reasons(self, state: State, look: Look) -> None:
        state.register(registration([candidate("a", state="quarantined", reason="url_known,boxes_in_range")]))
        assert look.rows("SELECT state, reason FROM images") == [("quarantined", "url_known,boxes_in_range")]
        assert state.claim(limit=10, owner="test") is None

    def test_a_good_version_ends_it(self, state: State, look: Look) -> None:
        state.register(registration([candidate("a", state="quarantined", reason="x")]))
        assert state.register(registration([candidate("a", version="v2", at=9)], manifest="m2")).changed == 1
        assert look.rows("SELECT state, reason, version FROM images") == [("pending", None, "v2")]

    def test_the_same_version_judged_good_ends_it(self, state: State, look: Look) -> None:
        state.register(registration([candidate("a", state="quarantined", reason="too_strict")]))
        assert state.register(registration([candidate("a")], manifest="m2")).changed == 1
        assert look.states() == {"a": "pending"}

    @pytest.mark.parametrize("ended", ["pending", "claimed", "done", "failed", "dead"])
    def test_a_bad_version_never_takes_away_work(self, open_state: Open, look: Look, ended: str) -> None:
        state = open_state(max_attempts=1 if ended == "dead" else 5)
        state.register(registration([candidate("a")]))
        if ended == "claimed":
            state.claim(limit=1, owner="test")
        elif ended != "pending":
            finish(state, reasons={} if ended == "done" else {"a": "timeout"})
        before = look.rows("SELECT * FROM images")
        bad = candidate("a", version="v2", at=9, state="quarantined", reason="x")
        assert state.register(registration([bad], manifest="m2")).quarantined == 1
        assert look.states() == {"a": ended}
        assert look.rows("SELECT * FROM images") == before

    def test_a_newer_reason_replaces_an_older_one_and_not_the_other_way_round(self, state: State, look: Look) -> None:
        for at, manifest in ((5, "m1"), (9, "m2"), (7, "m3")):
            row = candidate("a", version=manifest, at=at, state="quarantined", reason=f"of {manifest}")
            state.register(registration([row], manifest=manifest))
        assert look.one("SELECT reason FROM images") == "of m2"


class TestCursor:
    """The poll position."""

    def test_there_is_none_before_the_first_poll(self, state: State) -> None:
        assert state.cursor("cams") is None

    def test_it_moves_with_the_registration(self, state: State) -> None:
        state.register(registration([], cursor="2026-11-22T10:00:00.123456Z"))
        assert state.cursor("cams") == "2026-11-22T10:00:00.123456+00:00"

    def test_it_never_moves_back(self, state: State) -> None:
        state.register(registration([], cursor="2026-11-22T10:00:00+00:00", manifest="m1"))
        # Later as text, but earlier as a time.
        state.register(registration([], cursor="2026-11-22T11:30:00+02:00", manifest="m2"))
        assert state.cursor("cams") == "2026-11-22T10:00:00+00:00"

    def test_a_backfill_leaves_it(self, state: State) -> None:
        state.register(registration([], cursor="2026-11-22T10:00:00+00:00", manifest="m1"))
        state.register(registration([candidate("old")], cursor=None, manifest="m2"))
        assert state.cursor("cams") == "2026-11-22T10:00:00+00:00"

    def test_each_source_has_its_own(self, state: State) -> None:
        state.register(registration([], cursor="2026-11-22T10:00:00+00:00", manifest="m1"))
        assert state.cursor("others") is None

    def test_one_that_is_no_time_is_refused(self, state: State) -> None:
        with pytest.raises(StateError, match="ISO 8601"):
            state.register(registration([], cursor="page-7"))


class TestItems:
    """The memory of recently landed items."""

    def test_landed_items_are_no_longer_unseen(self, state: State) -> None:
        assert state.unseen("cams", ["a", "b", "b"]) == {"a", "b"}
        state.register(registration([], item_digests=[("a", NOON), ("a", NOON)]))
        assert state.unseen("cams", ["a", "b"]) == {"b"}
        assert state.unseen("others", ["a"]) == {"a"}
        assert state.unseen("cams", []) == set()

    def test_items_before_the_window_are_forgotten(self, state: State) -> None:
        state.register(registration([], item_digests=[("old", NOON - timedelta(minutes=30)), ("new", NOON)]))
        state.register(registration([], manifest="m2", forget_digests_before=NOON - timedelta(minutes=10)))
        assert state.unseen("cams", ["old", "new"]) == {"old"}

    def test_an_item_without_a_time_is_remembered_from_now(self, state: State) -> None:
        state.register(registration([], item_digests=[("a", None)]))
        assert state.unseen("cams", ["a"]) == set()

    def test_many_are_asked_for_at_once(self, state: State) -> None:
        state.register(registration([], item_digests=[(f"d{n}", NOON) for n in range(0, 5_000, 2)]))
        assert state.unseen("cams", [f"d{n}" for n in range(5_000)]) == {f"d{n}" for n in range(1, 5_000, 2)}


HOSTILE = [
    "../../etc/passwd",
    "nul\x00inside",
    "nul0inside",
    "private\U000f0000use",
    "private\U000f00001use",
    "quote\"'\\comma,",
    "\\.",
    "line\nbreak\r\n\\.\nafter",
    "'; DROP TABLE images; --",
    "é",
    "e\u0301",
    "É",
    " space ",
    "",
    "\u202eright to left",
    "NULL",
    "\\N",
    "%s :name ?",
]


def test_any_id_comes_back_as_it_went_in_and_stays_distinct(state: State) -> None:
    state.register(registration([candidate(image_id, store_id=image_id) for image_id in HOSTILE]))
    batch = state.claim(limit=100, owner="test")
    assert sorted(ids(batch)) == sorted(HOSTILE)
    for image_id in HOSTILE:
        (work,) = state.image("cams", image_id)
        assert (work.image_id, work.store_id) == (image_id, image_id)
    assert batch is not None
    assert state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1).done == len(HOSTILE)


def test_an_id_too_long_for_any_index_is_quarantined_and_its_neighbours_are_not(state: State, look: Look) -> None:
    rows = [candidate("a"), candidate("x" * 100_000 + "1"), candidate("x" * 100_000 + "2"), candidate("é" * 600)]
    assert state.register(registration(rows)) == Registered(new=1, changed=0, known=0, quarantined=3, already=False)
    assert look.rows("SELECT count(*), reason FROM images WHERE state = 'quarantined' GROUP BY 2") == [
        (3, "image_id_too_long")
    ]
    assert ids(state.claim(limit=10, owner="test")) == ["a"]


@pytest.mark.parametrize("year", [-5_000, 0, 9_999, 20_000])
def test_a_time_that_no_calendar_holds_becomes_unknown(state: State, year: int) -> None:
    micros = (year - 1970) * 31_556_952 * 1_000_000
    table = registration([candidate("a")]).rows
    assert isinstance(table, pa.Table)
    index = table.schema.get_field_index("captured_at")
    kind = table.schema.field(index)
    table = table.set_column(index, kind, pa.array([micros + 31_556_952_000_000], pa.int64()).cast(kind.type))
    state.register(registration([], rows=table))
    (work,) = state.image("cams", "a")
    assert work.captured_at is None or work.captured_at.year == year
    assert ids(state.claim(limit=1, owner="test")) == ["a"]


def test_times_come_back_in_utc_to_the_microsecond(state: State) -> None:
    moment = datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=UTC)
    state.register(registration([candidate("a", captured_at=moment)]))
    (work,) = state.image("cams", "a")
    assert work.captured_at == moment
    assert work.captured_at.utcoffset() == timedelta(0)
    assert work.first_seen == NOON


def test_a_pause_that_an_api_asked_for_is_kept_for_its_source_until_it_is_over(state: State, clock: Clock) -> None:
    state.keep_quiet("cams", timedelta(minutes=10))
    clock.forward(minutes=4)
    assert state.quiet_for("cams") == timedelta(minutes=6)
    assert state.quiet_for("roof") is None
    assert state.cursor("cams") is None
    state.register(registration([candidate("a")]))
    state.keep_quiet("cams", timedelta(minutes=1))
    assert state.quiet_for("cams") == timedelta(minutes=1)
    clock.forward(minutes=1)
    assert state.quiet_for("cams") is None

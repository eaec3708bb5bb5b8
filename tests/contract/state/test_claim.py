"""Claiming: which work item goes to which claim, for how long, and what a takeover gets."""

from datetime import timedelta
from typing import Any

import pytest

from cropline.core.errors import StaleLease, StateError
from cropline.core.schemas import CLAIM
from cropline.state import State
from tests.contract.state.build import NOON, RECIPES, Clock, Look, candidate, counts, ids, outcomes, registration
from tests.contract.state.conftest import Open


def fail(state: State, reasons: dict[str, str], **values: Any) -> None:
    """Claim all work and end it with these failures."""
    batch = state.claim(limit=1_000, owner="test")
    assert batch is not None
    state.commit(batch, outcomes(batch, reasons=reasons, **values), counts=counts(batch), catalogue_version=1)


def test_nothing_to_do_is_none(state: State) -> None:
    assert state.claim(limit=10, owner="test") is None
    assert state.claim(limit=10, owner="test", source="cams") is None


def test_an_idle_claim_writes_nothing(state: State, look: Look) -> None:
    state.register(registration([candidate("a")]))
    fail(state, {})
    before = look.everything()
    assert state.claim(limit=10, owner="test") is None
    assert look.everything() == before


def test_the_newest_photos_come_first_and_no_more_than_the_limit(state: State) -> None:
    state.register(
        registration([candidate(f"i{at}", at=at) for at in (3, 9, 1, 7, 5)] + [candidate("timeless", captured_at=None)])
    )
    assert ids(state.claim(limit=2, owner="test")) == ["i7", "i9"]
    assert ids(state.claim(limit=2, owner="test")) == ["i3", "i5"]
    assert ids(state.claim(limit=9, owner="test")) == ["i1", "timeless"]
    assert state.claim(limit=9, owner="test") is None


def test_a_claim_is_one_row_an_image_with_all_of_its_profiles_and_their_recipes(state: State) -> None:
    rows = [candidate(f"i{n}", profile=profile, manifest_row=n) for n in range(3) for profile in ("small", "default")]
    state.register(registration(rows))
    batch = state.claim(limit=2, owner="test")
    assert batch is not None
    assert batch.images.schema == CLAIM
    assert (batch.attempt, batch.resumed, batch.source, batch.superseding) == (1, False, "cams", [])
    images = batch.images.to_pylist()
    assert len(images) == 2
    for image in images:
        n = image["manifest_row"]
        assert image == {
            "source": "cams",
            "image_id": f"i{n}",
            "manifest": "manifests/1.parquet",
            "manifest_row": n,
            "work": [
                {
                    "profile": p,
                    "profile_hash": RECIPES[p][0],
                    "fingerprint": f"i{n}/v1/{p}",
                    "recipe": RECIPES[p][1],
                    "only": None,
                }
                for p in ("default", "small")
            ],
        }


def test_a_claim_may_be_of_some_profiles_only(state: State) -> None:
    state.register(registration([candidate("a", profile=profile) for profile in RECIPES]))
    batch = state.claim(limit=5, owner="test", profiles=["small"])
    assert batch is not None
    assert [work["profile"] for work in batch.images.to_pylist()[0]["work"]] == ["small"]
    assert state.claim(limit=5, owner="test", profiles=["small"]) is None
    rest = state.claim(limit=5, owner="test")
    assert rest is not None
    assert [work["profile"] for work in rest.images.to_pylist()[0]["work"]] == ["default"]


def test_a_batch_never_mixes_two_manifest_rows_of_one_image(state: State) -> None:
    state.register(registration([candidate("a", profile="default", manifest_row=4)], manifest="m1"))
    state.register(registration([candidate("a", profile="small", manifest_row=7)], manifest="m2"))
    batches = [state.claim(limit=5, owner="test") for _ in range(3)]
    found = [
        [(i["manifest"], i["manifest_row"], [w["profile"] for w in i["work"]]) for i in batch.images.to_pylist()]
        for batch in batches
        if batch is not None
    ]
    assert sorted(found) == [[("m1", 4, ["default"])], [("m2", 7, ["small"])]]


def test_a_retry_is_not_mixed_with_new_work_from_another_manifest_row_of_its_image(
    open_state: Open, clock: Clock
) -> None:
    """As after a backfill of a new profile, while an old profile's work item waits for its retry."""
    state = open_state(backoff_s=1)
    state.register(registration([candidate("a", profile="default", manifest_row=4, boxes=3)], manifest="m1"))
    failing = state.claim(limit=20, owner="test")
    assert failing is not None
    told = outcomes(failing, reasons={"a": "timeout"})
    state.commit(failing, told, counts=counts(failing), catalogue_version=1)
    state.register(registration([candidate("a", profile="small", manifest_row=7, boxes=5)], manifest="m2"))
    clock.forward(minutes=1)
    batches = [state.claim(limit=20, owner="test") for _ in range(3)]
    found = [
        [(i["manifest"], i["manifest_row"], [w["profile"] for w in i["work"]]) for i in batch.images.to_pylist()]
        for batch in batches
        if batch is not None
    ]
    assert sorted(found) == [[("m1", 4, ["default"])], [("m2", 7, ["small"])]]


def test_a_batch_is_of_one_source_and_the_sources_take_turns(state: State) -> None:
    for source in ("busy", "calm"):
        rows = [candidate(f"{source}{n}", source=source, at=0 if source == "calm" else n) for n in range(4)]
        state.register(registration(rows, source=source, manifest=f"of-{source}"))
    turns = []
    for _ in range(4):
        batch = state.claim(limit=2, owner="test")
        assert batch is not None
        assert set(batch.images["source"].to_pylist()) == {batch.source}
        turns.append(batch.source)
    assert sorted(turns[:2]) == sorted(turns[2:]) == ["busy", "calm"]


def test_a_claim_of_one_source_leaves_the_others(state: State) -> None:
    state.register(registration([candidate("a", source="one")], source="one"))
    assert state.claim(limit=5, owner="test", source="two") is None
    assert ids(state.claim(limit=5, owner="test", source="one")) == ["a"]


def test_a_recipe_that_was_never_registered_is_said(state: State, look: Look) -> None:
    state.register(registration([candidate("a")], profiles={}))
    with pytest.raises(StateError, match="recipe of profile default"):
        state.claim(limit=5, owner="test")
    assert look.states() == {"a": "pending"}


class TestRetries:
    """Failed images among new ones."""

    def test_one_comes_back_when_it_is_due_and_not_before(self, open_state: Open, clock: Clock) -> None:
        state = open_state(backoff_s=100)
        state.register(registration([candidate("a")]))
        fail(state, {"a": "timeout"})
        clock.forward(seconds=99)
        assert state.claim(limit=5, owner="test") is None
        clock.forward(seconds=51)  # jitter adds at most half
        assert ids(state.claim(limit=5, owner="test")) == ["a"]

    def test_they_get_a_tenth_of_a_batch_however_many_new_images_wait(self, open_state: Open, clock: Clock) -> None:
        state = open_state(backoff_s=1)
        state.register(registration([candidate(f"retry{n:02}") for n in range(40)]))
        fail(state, {f"retry{n:02}": "timeout" for n in range(40)})
        clock.forward(hours=1)
        state.register(registration([candidate(f"new{n:02}", at=n) for n in range(40)], manifest="m2"))
        claimed = ids(state.claim(limit=20, owner="test"))
        assert sum(name.startswith("retry") for name in claimed) == 2
        assert [name for name in claimed if name.startswith("new")] == [f"new{n:02}" for n in range(22, 40)]

    def test_they_fill_what_new_images_leave_free(self, open_state: Open, clock: Clock) -> None:
        state = open_state(backoff_s=1)
        state.register(registration([candidate(f"retry{n:02}") for n in range(30)]))
        fail(state, {f"retry{n:02}": "timeout" for n in range(30)})
        clock.forward(hours=1)
        state.register(registration([candidate("new")], manifest="m2"))
        claimed = ids(state.claim(limit=20, owner="test"))
        assert len(claimed) == len(set(claimed)) == 20
        assert "new" in claimed


class TestLease:
    """The owner of a batch."""

    def test_it_runs_as_long_as_the_settings_say(self, open_state: Open) -> None:
        state = open_state(lease_s=40)
        state.register(registration([candidate("a")]))
        batch = state.claim(limit=1, owner="test")
        assert batch is not None
        assert (batch.created_at, batch.lease_until) == (NOON, NOON + timedelta(seconds=40))

    def test_a_held_batch_is_nobody_elses(self, open_state: Open, clock: Clock) -> None:
        one, two = open_state(lease_s=40), open_state(lease_s=40)
        one.register(registration([candidate("a")]))
        assert one.claim(limit=1, owner="one") is not None
        clock.forward(seconds=39)
        assert two.claim(limit=1, owner="two") is None

    def test_a_heartbeat_keeps_it(self, open_state: Open, clock: Clock) -> None:
        one, two = open_state(lease_s=40), open_state(lease_s=40)
        one.register(registration([candidate("a")]))
        batch = one.claim(limit=1, owner="one")
        assert batch is not None
        for _ in range(10):
            clock.forward(seconds=30)
            one.renew(batch)
            assert two.claim(limit=1, owner="two") is None

    def test_a_silent_holder_is_taken_over_with_the_same_batch_and_a_higher_attempt(
        self, open_state: Open, clock: Clock
    ) -> None:
        one, two = open_state(lease_s=40), open_state(lease_s=40)
        one.register(registration([candidate(f"i{n}", profile=p) for n in range(5) for p in RECIPES]))
        first = one.claim(limit=4, owner="one")
        clock.forward(seconds=40)
        second = two.claim(limit=1, owner="two")
        assert first is not None
        assert second is not None
        assert (second.batch_id, second.attempt, second.resumed) == (first.batch_id, 2, True)
        assert second.images.equals(first.images)
        assert second.created_at == first.created_at

    def test_stale_batches_come_before_new_work(self, open_state: Open, clock: Clock) -> None:
        state = open_state(lease_s=40)
        state.register(registration([candidate("old", at=0)]))
        stale = state.claim(limit=1, owner="one")
        clock.forward(seconds=40)
        state.register(registration([candidate("new", at=100)], manifest="m2"))
        assert ids(state.claim(limit=1, owner="two")) == ids(stale)

    def test_a_zombie_can_neither_renew_nor_release_nor_commit(
        self, open_state: Open, clock: Clock, look: Look
    ) -> None:
        one, two = open_state(lease_s=40), open_state(lease_s=40)
        one.register(registration([candidate("a")]))
        zombie = one.claim(limit=1, owner="one")
        clock.forward(seconds=120)
        heir = two.claim(limit=1, owner="two")
        assert zombie is not None
        assert heir is not None
        before = look.everything()
        for act in (
            lambda: one.renew(zombie),
            lambda: one.release(zombie, "late"),
            lambda: one.commit(zombie, outcomes(zombie), counts=counts(zombie), catalogue_version=1),
        ):
            with pytest.raises(StaleLease, match="attempt 1 no longer owns it"):
                act()
        assert look.everything() == before
        assert two.commit(heir, outcomes(heir), counts=counts(heir), catalogue_version=1).done == 1

    def test_a_late_holder_that_nobody_replaced_may_still_commit(self, open_state: Open, clock: Clock) -> None:
        state = open_state(lease_s=40)
        state.register(registration([candidate("a")]))
        batch = state.claim(limit=1, owner="one")
        clock.forward(seconds=120)
        assert batch is not None
        assert state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1).done == 1
        assert state.claim(limit=1, owner="two") is None

    def test_a_released_batch_is_resumed_at_once_under_its_id(self, state: State, look: Look) -> None:
        state.register(registration([candidate("a")]))
        first = state.claim(limit=1, owner="one")
        assert first is not None
        state.release(first, "the cluster went away")
        second = state.claim(limit=1, owner="two")
        assert second is not None
        assert second.images.equals(first.images)
        assert look.rows("SELECT batch_id, attempt, note FROM batches") == [
            (first.batch_id, 2, "the cluster went away")
        ]

    def test_a_committed_batch_is_never_taken_over_or_released(self, state: State, clock: Clock) -> None:
        state.register(registration([candidate("a")]))
        batch = state.claim(limit=1, owner="one")
        assert batch is not None
        state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
        clock.forward(days=2)
        assert state.claim(limit=1, owner="two") is None
        with pytest.raises(StaleLease):
            state.release(batch, "late")
        # A run that lost the commit's reply sends a heartbeat first and finds the batch committed.
        state.renew(batch)
        assert state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1).already

    def test_a_batch_that_kills_its_workers_does_not_keep_others_from_their_work(
        self, open_state: Open, clock: Clock
    ) -> None:
        state = open_state(lease_s=40)
        state.register(registration([candidate("poison")]))
        poison = state.claim(limit=1, owner="one")
        assert poison is not None
        for attempt in (2, 3, 4):
            clock.forward(seconds=40)
            resumed = state.claim(limit=1, owner="one")
            assert resumed is not None
            assert (resumed.batch_id, resumed.attempt) == (poison.batch_id, attempt)
        clock.forward(seconds=40)
        state.register(registration([candidate("good")], manifest="m2"))
        assert ids(state.claim(limit=1, owner="one")) == ["good"]
        # It is not given up either.
        assert ids(state.claim(limit=1, owner="one")) == ["poison"]


def test_membership_is_frozen_though_a_new_version_is_registered(open_state: Open, clock: Clock) -> None:
    state = open_state(lease_s=40)
    state.register(registration([candidate("a", manifest_row=3, boxes=3)], manifest="m1"))
    first = state.claim(limit=1, owner="one")
    state.register(registration([candidate("a", version="v2", at=9, manifest_row=8, boxes=50)], manifest="m2"))
    clock.forward(seconds=40)
    second = state.claim(limit=1, owner="two")
    assert first is not None
    assert second is not None
    assert second.images.equals(first.images)
    (row,) = second.images.to_pylist()
    assert (row["manifest"], row["manifest_row"], row["work"][0]["fingerprint"]) == ("m1", 3, "a/v1/default")
    # The counts are those of the claimed work, too.
    assert state.commit(second, outcomes(second), counts=counts(second, 3), catalogue_version=1).pending_again == 1


def test_a_batch_holds_what_it_claimed_through_any_number_of_registrations(open_state: Open, clock: Clock) -> None:
    state = open_state(lease_s=40)
    state.register(registration([candidate("a", manifest_row=3, boxes=3, metadata="shelf")], manifest="m1"))
    first = state.claim(limit=1, owner="one")
    assert first is not None
    other = RECIPES | {"default": ("another-hash", '{"format":"png"}')}
    changed = candidate("a", version="v2", at=9, manifest_row=8, boxes=50, metadata="cooler")
    for number, row in enumerate(
        [
            changed,  # another photo
            changed | {"profile_hash": "another-hash", "fingerprint": "a/v2/png"},  # another recipe
            changed | {"profile_hash": "another-hash", "fingerprint": "a/v2/png", "metadata": "freezer"},
            changed
            | {"profile_hash": "another-hash", "fingerprint": "a/v2/png", "metadata": "freezer", "manifest_row": 9},
        ]
    ):
        state.register(registration([row], manifest=f"m{number + 2}", profiles=other))
        clock.forward(seconds=40)
        resumed = state.claim(limit=1, owner=f"resumed {number}")
        assert resumed is not None
        assert resumed.images.equals(first.images)
    assert {"m1", "m5"} <= state.needed_manifests()
    assert state.commit(resumed, outcomes(resumed), counts=counts(resumed, 3), catalogue_version=1).pending_again == 1
    again = state.claim(limit=1, owner="last")
    assert again is not None
    (last,) = again.images.to_pylist()
    assert (last["manifest"], last["manifest_row"], last["work"][0]["fingerprint"]) == ("m5", 9, "a/v2/png")
    assert last["work"][0]["profile_hash"] == "another-hash"


def test_a_recrop_says_which_images_the_catalogue_holds_already(open_state: Open, clock: Clock) -> None:
    state = open_state(lease_s=40)
    state.register(registration([candidate("a"), candidate("b")]))
    fail(state, {"b": "timeout"})  # its rows are in the catalogue too, as failed
    rows = [candidate("a", version="v2", at=9), candidate("b", version="v2", at=9), candidate("c")]
    state.register(registration(rows, manifest="m2"))
    batch = state.claim(limit=5, owner="one")
    clock.forward(seconds=40)
    resumed = state.claim(limit=5, owner="two")
    assert batch is not None
    assert resumed is not None
    assert batch.superseding == resumed.superseding == [("cams", "a", "default"), ("cams", "b", "default")]

"""What a changed profile would cut again, counted in the state, and the queries of maintenance."""

from __future__ import annotations

import pytest

from cropline.state import Recrop, State
from tests.contract.state.build import NOON, Clock, candidate, counts, outcomes, registration


def test_only_works_of_another_recipe_and_photos_without_one_count(state: State) -> None:
    rows = [
        candidate("a", boxes=2, bytes=100), candidate("b", boxes=3, bytes=None),
        candidate("b", profile="small", boxes=3, bytes=None), candidate("bad", state="quarantined", reason="no_url"),
        candidate("a", source="other"),
    ]  # fmt: skip
    state.register(registration(rows[:4]))
    state.register(registration(rows[4:], source="other", manifest="manifests/2.parquet"))
    assert state.recrops("cams", "default", "hash-of-default") == Recrop("default", 0, 0, 0, 0, ())
    assert state.recrops("cams", "default", "new") == Recrop("default", 2, 0, 5, 100, ("hash-of-default",))
    assert state.recrops("cams", "small", "hash-of-small") == Recrop("small", 0, 1, 2, 100, ())
    assert state.recrops("cams", "third", "x") == Recrop("third", 0, 2, 5, 100, ())


def test_manifests_of_works_that_are_not_done_are_needed(state: State, clock: Clock) -> None:
    state.register(registration([candidate("a", at=2)], manifest="manifests/1.parquet"))
    state.register(registration([candidate("b", at=1)], manifest="manifests/2.parquet"))
    assert state.oldest_open_batch() is None
    batch = state.claim(limit=1, owner="me")
    assert batch is not None
    assert state.oldest_open_batch() == NOON
    # A claimed item needs the manifest that it was claimed with, whatever was registered since.
    state.register(registration([candidate("a", version="v2", at=9)], manifest="manifests/3.parquet"))
    assert state.needed_manifests() == {f"manifests/{number}.parquet" for number in (1, 2, 3)}
    state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
    assert state.needed_manifests() == {"manifests/2.parquet", "manifests/3.parquet"}
    assert state.oldest_open_batch() is None


def test_images_that_are_to_be_cut_again_come_in_parts_and_each_once(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cropline.state.reports._PART", 2)
    names = ["a", "b", "c", "d", "e"]
    both = [candidate(name, profile=profile) for name in names for profile in ("default", "small")]
    state.register(registration([*both, candidate("bad", state="quarantined", reason="url_present")]))
    batch = state.claim(limit=1, owner="run", images=["a"])
    assert batch is not None
    parts = list(state.images_to_come())
    assert max(map(len, parts)) == 2
    assert sorted(image for part in parts for image in part) == [("cams", name) for name in names]
    state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
    assert ("cams", "a") not in [image for part in state.images_to_come() for image in part]

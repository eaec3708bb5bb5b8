"""A state database belongs to one storage and to one API per source, and remembers how far it has read the catalogue."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cropline.core.errors import StateError
from cropline.state import State
from tests.contract.state.build import NOON, candidate, counts, outcomes, registration
from tests.contract.state.conftest import Open

HERE = ("file:///data/crops", "cams", "https://api.example.com/v1")


def test_the_first_run_decides_and_the_same_place_in_other_letters_is_the_same(state: State) -> None:
    state.bind(*HERE)
    state.bind("file:///data//crops/", "cams", "HTTPS://API.example.com:443/v1/")
    state.bind("file:///data/crops", "cams", None)
    state.bind("file:///data/crops", "other", "http://elsewhere")
    assert state.bound().storage == "file:///data/crops"


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (
            ("file:///data/Crops", "cams", HERE[2]),
            "storage file:///data/crops.*file:///data/Crops.*move-state --storage",
        ),
        ((HERE[0] + " at http://minio:9000", "cams", HERE[2]), "at http://minio:9000.*move-state --storage"),
        ((HERE[0], "cams", "https://api.example.com/v2"), "cams https://api.example.com/v1.*/v2.*move-state --api"),
        ((HERE[0], "cams", "http://api.example.com/v1"), "move-state --api"),
    ],
)
def test_another_storage_or_api_is_refused_in_one_line(state: State, place: tuple[str, str, str], told: str) -> None:
    state.bind(*HERE)
    with pytest.raises(StateError, match=told) as caught:
        state.bind(*place)
    assert "\n" not in str(caught.value)
    state.bind(*HERE)


def test_a_move_is_said_once_and_of_another_catalogue_nothing_is_known(state: State) -> None:
    state.bind(*HERE)
    state.remember_catalogue(7, unknown_batches=False)
    state.duplicates_checked()
    state.move("cams", api="http://api.example.com/v1")
    assert (state.bound().catalogue_version, state.bound().duplicates_checked) == (7, True)
    state.move("cams", storage="s3://bucket/crops")
    assert (state.bound().catalogue_version, state.bound().duplicates_checked) == (None, False)
    state.bind("s3://bucket/crops/", "cams", "http://api.example.com/v1")
    with pytest.raises(StateError, match="move-state"):
        state.bind(*HERE)


def test_a_commit_remembers_the_catalogue_and_never_forgets_an_unknown_batch(state: State) -> None:
    state.register(registration([candidate("a"), candidate("b")]))
    for version, unknown_batches in ((7, True), (5, False)):
        batch = state.claim(limit=1, owner="test")
        assert batch is not None
        assert state.known_batches([batch.batch_id, "an unknown batch"]) == {batch.batch_id}
        state.commit(
            batch, outcomes(batch), counts=counts(batch), catalogue_version=version, unknown_batches=unknown_batches
        )
        bound = state.bound()
        assert (bound.catalogue_version, bound.unknown_batches, bound.duplicates_checked) == (7, True, False)
    assert state.report().unknown_batches


def test_what_is_done_with_failures_is_told_from_what_is_done(state: State) -> None:
    state.register(registration([candidate(name) for name in "abc"]))
    batch = state.claim(limit=3, owner="test")
    assert batch is not None
    ended = [
        outcome if outcome.image_id != "b" else outcome._replace(permanent_reason="http_4xx")
        for outcome in outcomes(batch)
    ]
    state.commit(batch, ended, counts=counts(batch), catalogue_version=1)
    report = state.report()
    assert (report.images["done"], report.done_with_failures) == (3, 1)
    assert [(count.state, count.reason, count.works) for count in report.reasons] == [("done", "http_4xx", 1)]


def test_an_erasure_is_recalled_by_its_receipt_and_tells_which_photos_may_be_back(state: State) -> None:
    state.register(registration([candidate("a"), candidate("b")]))
    back = state.recall_erasure("e1", "cams", "{}", NOON, NOON + timedelta(hours=1), ["a", "gone"])
    assert back == ["a"]
    assert state.known_erasures(["e1", "e2"]) == {"e1"}
    assert state.forgotten("cams", ["a", "b", "gone"]) == {"a", "gone"}
    assert state.unfinished_erasures("cams") == []
    assert state.register(registration([candidate("gone", version="v9")], manifest="later")).new == 0


def test_a_copy_belongs_where_the_original_does(
    state: State, open_state: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state.bind(*HERE)
    state.remember_catalogue(3, unknown_batches=True)
    with State.open(type(state._settings)(url=f"sqlite:///{tmp_path_factory.mktemp('new')}/state.db")) as new:
        state.copy_to(new, lambda table, rows: None)
        assert new.bound() == state.bound()
        with pytest.raises(StateError, match="image API of cams"):
            new.bind(HERE[0], "cams", "http://other")

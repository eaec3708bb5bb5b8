"""A photo's rows are found where the state says, and all of them whatever the state says."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from cropline.catalogue import Catalogue
from cropline.config.state import StateSettings
from cropline.core.store_spec import StoreSpec
from cropline.pipeline import photo_rows
from cropline.state import Bound
from tests.unit.cropline.catalogue.test_catalogue import append, crops

Told = Callable[..., tuple[set[tuple[str, str]], bool]]


class FakeState:
    """A state that knows work items of one photo: profile -> (state, committed batch)."""

    def __init__(self, items: dict[str, tuple[str, str | None]], bound: Bound) -> None:
        self._items, self._bound = items, bound

    def __enter__(self) -> FakeState:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def image(self, _source: str, _image_id: str) -> list[Any]:
        return [SimpleNamespace(profile=p, state=s, committed_batch=b) for p, (s, b) in self._items.items()]

    def bound(self) -> Bound:
        return self._bound

    def known_batches(self, batches: Collection[str]) -> set[str]:
        return {batch for batch in batches if batch.startswith("ours")}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    catalogue = Catalogue(StoreSpec(tmp_path.as_uri()))
    append(catalogue, crops(["a"], profile="one", version="v1"), "ours-1")
    append(catalogue, crops(["a"], profile="two", version="v1"), "ours-2")
    append(catalogue, crops(["a"], profile="one", version="v2"), "ours-3", superseding=[("cameras", "a", "one")])
    return catalogue


NOW = {("one", "v2"), ("two", "v1")}


@pytest.fixture
def told(catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Return a function: the state's items -> (profile, version) of the rows found, and whether the state sufficed."""

    def look(
        items: dict[str, tuple[str, str | None]], *, until: int | None = 3, unknown: bool = False, missing: bool = False
    ) -> tuple[set[tuple[str, str]], bool]:
        asked: list[str] = []
        whole = Catalogue.image_rows

        def image_rows(self: Catalogue, source: str, image_id: str) -> Any:
            asked.append(image_id)
            return whole(self, source, image_id)

        monkeypatch.setattr(Catalogue, "image_rows", image_rows)
        file = tmp_path / "state.db"
        if not missing:
            file.touch()
        state = FakeState(items, Bound(None, until, unknown, duplicates_checked=False))
        monkeypatch.setattr(photo_rows, "State", SimpleNamespace(open=lambda _settings: state))
        settings = StateSettings(url=SecretStr(f"sqlite:///{file}"))
        rows = photo_rows.rows_of_photo(catalogue, settings, "cameras", "a")
        assert file.exists() is not missing
        return set(zip(rows["profile"].to_pylist(), rows["version"].to_pylist(), strict=True)), not asked

    return look


def test_the_batches_of_the_state_are_where_the_rows_are(told: Told) -> None:
    assert told({"one": ("done", "ours-3"), "two": ("done", "ours-2"), "three": ("dead", None)}) == (NOW, True)


@pytest.mark.parametrize(
    "state",
    [
        {"items": {"one": ("done", "ours-1"), "two": ("done", "ours-2")}},  # older than the catalogue
        {"items": {"one": ("done", "ours-3"), "two": ("claimed", None)}},  # its batch is in the catalogue already
        {"items": {}},
        {"items": {"one": ("done", "ours-3")}, "unknown": True},
        {"items": {"one": ("done", "ours-3")}, "until": None},
        {"items": {"one": ("done", "ours-3")}, "missing": True},
    ],
)
def test_a_state_that_may_miss_rows_is_not_believed(told: Told, state: dict[str, Any]) -> None:
    assert told(**state) == (NOW, False)


def test_rows_that_another_installation_committed_since_are_found(catalogue: Catalogue, told: Told) -> None:
    append(catalogue, crops(["a"], profile="theirs", version="v9"), "theirs-1")
    found = told({"one": ("done", "ours-3"), "two": ("done", "ours-2")})
    assert found == (NOW | {("theirs", "v9")}, False)


def test_the_rows_need_no_state_that_answers(catalogue: Catalogue) -> None:
    settings = StateSettings(url=SecretStr("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    assert len(photo_rows.rows_of_photo(catalogue, settings, "cameras", "a")) == 4

"""Several sources in one installation: one state and one storage, each with its own cursor, place, pace and turn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cropline.catalogue import Catalogue
from cropline.config.settings import load_installation
from cropline.core.errors import ApiUnavailable, SettingsError, StateError
from cropline.state import State
from tests.integration.cameras import Cameras, cameras
from tests.integration.conftest import Workspace


@pytest.fixture
def zeta(photo_cache: Path) -> Iterator[Cameras]:
    with cameras(photos=3, megapixels=0.3, cache_dir=photo_cache) as api:
        yield api


@pytest.fixture
def two(workspace: Workspace, zeta: Cameras) -> Workspace:
    """The workspace with two sources: acme is its camera API, zeta has three photos of the same ids."""
    acme = {"api": {"url": workspace.api.base_url, "token": workspace.api.token}}
    other = {"api": {"url": zeta.base_url, "token": zeta.token}}
    workspace.set(SOURCES=json.dumps({"acme": acme, "zeta": other}), BATCH__IMAGES="2", LINEAGE__TRANSPORT="none")
    return workspace


def rows_by_source() -> Counter[str]:
    return Counter(Catalogue(load_installation().storage.spec).rows()["source"].to_pylist())


def test_each_source_is_polled_by_its_name_and_process_takes_turns(two: Workspace, zeta: Cameras) -> None:
    from flows.poll import poll
    from flows.process import process

    with pytest.raises(SettingsError, match="name one with --source: acme, zeta"):
        poll()
    assert poll(source="acme", max_batches=0).new == 6
    assert poll(source="zeta", max_batches=0).new == 3
    done = process(max_batches=2)
    assert done.images == 4
    assert set(rows_by_source()) == {"acme", "zeta"}, "a batch of each, though acme has more to do"
    process()
    with State.open(load_installation().state) as state:
        ended = Counter((work.source, work.state) for work in state.find_images(limit=100))
        assert ended == {("acme", "done"): 6, ("zeta", "done"): 3}
        assert state.cursor("acme") is not None
        assert state.cursor("zeta") is not None
    rows = rows_by_source()
    for name, api in (("acme", two.api), ("zeta", zeta)):
        assert rows[name] == sum(len(row["boxes"]) for row in api.control.images())


def test_the_state_belongs_to_each_sources_api_and_a_move_is_of_one(
    two: Workspace, zeta: Cameras, capsys: pytest.CaptureFixture[str]
) -> None:
    from cropline.cli.move_state import run_move
    from flows.poll import poll

    poll(source="acme", max_batches=0)
    poll(source="zeta", max_batches=0)
    swapped = {
        "acme": {"api": {"url": zeta.base_url, "token": zeta.token}},
        "zeta": {"api": {"url": zeta.base_url, "token": zeta.token}},
    }
    two.set(SOURCES=json.dumps(swapped))
    with pytest.raises(StateError, match="image API of acme.*move-state --api"):
        poll(source="acme")
    assert poll(source="zeta", max_batches=0).new == 0, "the other source is not touched"
    with pytest.raises(SettingsError, match="name one with --source"):
        run_move(storage=False, api=True)
    run_move(storage=False, api=True, source="acme")
    assert "acme is now polled at" in capsys.readouterr().out
    poll(source="acme", max_batches=0)


def test_the_command_polls_all_and_one_that_fails_stops_no_other(
    two: Workspace, zeta: Cameras, capsys: pytest.CaptureFixture[str]
) -> None:
    from cropline.cli.runs import run_poll

    broken = {
        "acme": {"api": {"url": "http://127.0.0.1:9", "retries": 0}},
        "zeta": {"api": {"url": zeta.base_url, "token": zeta.token}},
    }
    two.set(SOURCES=json.dumps(broken))
    with pytest.raises(ApiUnavailable) as caught:
        run_poll(None, None)
    assert caught.value.__notes__ == ["the poll of acme failed; the other sources were polled"]
    assert "poll zeta" in capsys.readouterr().out
    assert set(rows_by_source()) == {"zeta"}

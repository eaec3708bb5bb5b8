"""Photos that ended long ago leave the state table. What the API announces later becomes the same as if they had stayed.

The oracle is the same sequence of announcements in an installation whose photos stay: rows, objects, and requests.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cropline.backfill.request import Photos
from cropline.core import storage
from cropline.erasure.erase import forget
from cropline.erasure.selection import Selection
from cropline.maintenance import expire_crops, move_out_ended
from cropline.state import State
from tests.integration.cameras import listening
from tests.integration.conftest import Workspace, settled
from tests.integration.fork_server import ForkServer
from tests.integration.test_announced_again import NOW, SignedPolls, SigningApi

_SAME = (
    "image_id",
    "profile",
    "box_index",
    "status",
    "reason",
    "key",
    "sha256",
    "label",
    "score",
    "store_id",
    "version",
)


@pytest.fixture(scope="module")
def polls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedPolls]:
    with listening() as at:
        yield SignedPolls(tmp_path_factory.mktemp("signed"), at)


@pytest.fixture
def api(polls: SignedPolls) -> Iterator[SigningApi]:
    with polls.api() as served:
        yield served


@pytest.fixture
def here(workspace: Workspace, api: SigningApi) -> Workspace:
    return _set(workspace, api)


@pytest.fixture
def polled(polls: SignedPolls, here: Workspace, api: SigningApi) -> Workspace:
    return polls.put_back(here, api)


def _set(workspace: Workspace, api: SigningApi) -> Workspace:
    workspace.set(API__URL=api.url, STATE__BACKOFF_S="0.001", RETENTION__STATE_DAYS="30", LINEAGE__TRANSPORT="none")
    return workspace


def _age(here: Workspace, days: int) -> None:
    with sqlite3.connect(here.folder / "state.db") as database:
        database.execute(
            f"UPDATE images SET since = datetime(since, '-{days} days') || '.000000+00:00' WHERE state = 'done'"
        )


def _move_out(here: Workspace, *, dry_run: bool = False) -> list[int]:
    with State.open(here.settings.state) as state:
        return [one.count for one in move_out_ended(here.settings.storage.spec, state, here.settings, dry_run=dry_run)]


def _moved(here: Workspace) -> int:
    with State.open(here.settings.state) as state:
        return state.report().moved_out


def _history(here: Workspace, api: SigningApi, *, moving: bool) -> list[Any]:
    """Poll a sequence of announcements; return what each left, and how often each photo was fetched."""
    api.changes.clear()
    api.fetched.clear()
    later = NOW.isoformat()
    older = NOW.replace(year=2020).isoformat()
    half = {"id": "b1", "xmin": 0.0, "ymin": 0.0, "xmax": 0.5, "ymax": 0.5, "label": "cola", "score": 0.9}
    steps: list[dict[str, dict[str, Any]]] = [
        {},
        # The same again; corrected metadata; an older version.
        {
            "a": {"updated_at": later},
            "b": {"updated_at": later, "score": 0.5},
            "c": {"updated_at": older, "boxes": [half]},
        },
        # Other boxes; a bad version of a good photo; another photo.
        {"a": {"boxes": [half]}, "b": {"captured_at": "not a time"}, "c": {"updated_at": later, "etag": "other"}},
    ]
    left = []
    for number, changes in enumerate(steps):
        for name, change in changes.items():
            api.changes[name] = api.changes.get(name, {}) | change
        here.poll()
        left.append(([tuple(row[name] for name in _SAME) for row in here.rows()], here.objects(), dict(api.fetched)))
        if moving:
            _age(here, 40)
            assert _move_out(here)[0] > 0, f"after step {number}"
            assert here.states() == {}
    here.set(PROFILES='{"default": {"quality": 50}, "extra": {"max_side": 40}}')
    for name in "ac":
        api.changes[name] |= {"updated_at": NOW.replace(microsecond=7).isoformat()}
    here.poll()
    left.append(([tuple(row[name] for name in _SAME) for row in here.rows()], here.objects(), dict(api.fetched)))
    return left


def test_a_history_of_announcements_ends_the_same_whether_photos_left_or_stayed(
    here: Workspace, api: SigningApi, tmp_path: Path, forks: ForkServer, camera_api: Any
) -> None:
    left = _history(here, api, moving=True)
    with pytest.MonkeyPatch.context() as patch, settled(tmp_path / "stayed", camera_api, forks, patch) as other:
        stayed = _history(_set(other, api), api, moving=False)
    for number, (one, two) in enumerate(zip(left, stayed, strict=True)):
        assert one == two, f"step {number}"
    assert len(left[-1][0]) == 6, "one current row for each box and profile that was announced"


def test_what_is_not_exactly_in_the_catalogue_stays_and_a_dry_run_moves_nothing(polled: Workspace) -> None:
    here = polled
    _age(here, 40)
    with sqlite3.connect(here.folder / "state.db") as database:
        database.execute("UPDATE images SET fingerprint = 'another' WHERE image_id = 'b'")
    assert _move_out(here, dry_run=True) == [2, 1]
    assert sorted(here.states()) == ["a", "b", "c"]
    assert _move_out(here) == [2, 1]
    assert sorted(here.states()) == ["b"]
    here.set(PROFILES='{"default": {"retention_days": 90}}')
    with State.open(here.settings.state) as state:
        state.bring_back("cams", [])
    assert _moved(here) == 2


@pytest.mark.parametrize(
    ("function", "event"),
    [
        ("_remembered", "return"),
        pytest.param("_move_out", "return", marks=pytest.mark.slow),
        pytest.param("drop", "call", marks=pytest.mark.slow),
    ],
)
def test_a_kill_leaves_each_photo_in_the_table_or_known_to_have_left(
    polled: Workspace, api: SigningApi, function: str, event: str
) -> None:
    """Killed within the transaction of a move, after it, and within that which brings photos back."""
    here = polled
    _age(here, 40)
    if function == "drop":
        _move_out(here)
        api.changes["a"] = {"updated_at": NOW.isoformat(), "etag": "other"}
    code = _KILLED.format(function=function, event=event, act="poll()" if function == "drop" else "maintain()")
    assert here.run(code).returncode == -9
    before = here.rows()
    left = _moved(here)
    assert left == {"_remembered": 0, "_move_out": 3, "drop": 3}[function]
    assert len(here.states()) == 3 - left
    api.changes["a"] = {"updated_at": NOW.isoformat(), "etag": "other"}
    fetched = api.fetched["a"]
    here.poll()
    assert (api.fetched["a"], api.fetched["b"], len(here.rows())) == (fetched + 1, 1, len(before))
    _move_out(here)
    assert sorted(here.states()) == ["a"], "it ended just now"


_KILLED = """
import os, signal, sys
from cropline.config.settings import load_settings
from cropline.maintenance import move_out_ended
from cropline.state import State
from flows.poll import poll
def maintain():
    settings = load_settings()
    with State.open(settings.state) as state:
        move_out_ended(settings.storage.spec, state, settings, dry_run=False)
def watch(frame, event, arg):
    if event == "{event}" and frame.f_code.co_qualname == "{function}" and "moved_out" in frame.f_code.co_filename:
        os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(watch)
{act}
"""


def test_photos_that_left_are_erased_deleted_and_replayed_like_others(polled: Workspace, api: SigningApi) -> None:
    here = polled
    _age(here, 40)
    _move_out(here)
    settings, spec = here.settings, here.settings.storage.spec
    with State.open(settings.state) as state:
        assert state.known_images("cams", ["a"]) == {"a"}
        erased = forget(spec, state, "cams", Selection(stores=("s1",)))
        assert (erased.images, erased.rows, erased.in_progress) == (3, 6, 0)
        assert state.report().moved_out == 0
    assert storage.list_keys(spec, "crops") == []
    api.changes["a"] = {"updated_at": NOW.isoformat(), "etag": "other"}
    here.poll()
    assert here.rows() == []


def test_a_backfill_knows_photos_that_left_and_cuts_them_again_only_when_asked(
    polled: Workspace, api: SigningApi
) -> None:
    from flows.backfill import backfill

    here = polled
    _age(here, 40)
    _move_out(here)
    before = dict(api.fetched)
    backfill(Photos(), announced="manifests", mode="missing")
    assert (dict(api.fetched), here.states()) == (before, {}), "nothing was missing"
    backfill(Photos(), announced="manifests", mode="all")
    assert dict(api.fetched) == dict.fromkeys("abc", 2)
    assert len(here.rows()) == 6
    assert here.states() == dict.fromkeys("abc", "done")


def test_photos_that_leave_again_before_a_backfill_requeues_them_are_cut(
    polled: Workspace, api: SigningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.backfill import backfill

    here = polled
    _age(here, 40)
    _move_out(here)
    requeue, left = State.requeue, []

    def after_maintenance(state: State, **which: Any) -> int:
        if not left:
            left.append(0)  # what the catalogue gives back ended when it was committed
            _age(here, 40)
            left.append(_move_out(here)[0])
        return requeue(state, **which)

    monkeypatch.setattr(State, "requeue", after_maintenance)
    backfill(Photos(), announced="manifests", mode="all")
    assert left == [0, 3]
    assert dict(api.fetched) == dict.fromkeys("abc", 2)
    assert (here.states(), _moved(here)) == (dict.fromkeys("abc", "done"), 0)


def test_a_retention_of_crops_that_came_later_brings_the_photos_back(polled: Workspace, api: SigningApi) -> None:
    """Else the catalogue would no longer know them, and they would be cut again when they are announced again."""
    here = polled
    _age(here, 40)
    _move_out(here)
    here.set(PROFILES='{"default": {"retention_days": 1}}')
    from tests.integration.test_maintenance import _commit_days_ago

    _commit_days_ago(here, 8)
    with State.open(here.settings.state) as state:
        expire_crops(here.settings.storage.spec, state, here.settings, dry_run=False)
    assert (here.rows(), here.states()) == ([], dict.fromkeys("abc", "done"))
    _age(here, 40)
    assert _move_out(here) == [0, 3]
    api.changes["a"] = {"updated_at": NOW.isoformat()}
    here.poll()
    assert (api.fetched["a"], here.rows()) == (1, [])

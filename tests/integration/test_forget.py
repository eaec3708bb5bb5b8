"""Erasure of photos: everything made from them is removed for good, despite concurrent runs and kills."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import cropline
from cropline.catalogue import Catalogue
from cropline.core import storage
from cropline.core.errors import StaleLease
from cropline.erasure.erase import ErasureResult, estimate, finish, forget
from cropline.erasure.events import event_emitter
from cropline.erasure.selection import Selection
from cropline.maintenance.orphans import remove_orphans
from cropline.state import State
from tests.integration.conftest import Workspace, after_a_poll
from tests.integration.killing import calling_at

# Kills the command at a function that the profiler watches.
KILLED_AT = """
import os, signal, sys, threading
from cropline.erasure.erase import forget
from cropline.erasure.events import event_emitter
from cropline.erasure.selection import Selection
from cropline.config.settings import load_settings
from cropline.state import State
settings = load_settings()
def watch(frame, event, arg):
    if event == "{event}" and frame.f_code.co_qualname == "{function}":
        os.kill(os.getpid(), signal.SIGKILL)
with State.open(settings.state) as state:
    threading.setprofile(watch)
    sys.setprofile(watch)
    forget(settings.storage.spec, state, "cams", Selection(images=({image!r},)), event_emitter(settings, state))
"""
PLACES = [
    (function, event)
    for function in ("State.begin_erasure", "_Log.add", "Catalogue.forget_images", "delete", "State.mark_erased",
                     "_write_receipt", "State.end_erasure")
    for event in ("call", "return")
]  # fmt: skip


def _forget(workspace: Workspace, *images: str, **which: Any) -> ErasureResult:
    settings = workspace.settings
    with State.open(settings.state) as state:
        return forget(
            settings.storage.spec, state, "cams", Selection(images=images, **which), event_emitter(settings, state)
        )


def _told(workspace: Workspace, *ids: str) -> dict[str, list[dict[str, Any]]]:
    """Return {erasure: its events in the outbox, in order}. No event names one of these photos."""
    found: dict[str, list[dict[str, Any]]] = {}
    with State.open(workspace.settings.state) as state:
        for waiting in state.pending_events(1000):
            event = json.loads(waiting.payload)
            if event["job"]["name"] == "cropline.erasure":
                assert not any(image in waiting.payload for image in ids)
                tags = {tag["key"]: tag["value"] for tag in event["run"]["facets"]["tags"]["tags"]}
                found.setdefault(tags["cropline.erasure"], []).append(event)
    return found


def _forget_again(workspace: Workspace, image: str) -> ErasureResult:
    """Run it again after a kill, waiting until the killed one's lease ends."""
    deadline = time.monotonic() + 30
    while (erased := _forget(workspace, image)).waits:
        assert time.monotonic() < deadline, "the lease of a dead erasure never ends"
        time.sleep(0.05)
    return erased


def _receipt(workspace: Workspace, erased: ErasureResult) -> dict[str, Any]:
    assert erased.receipt is not None
    return dict(json.loads(storage.read(workspace.settings.storage.spec, erased.receipt)))


def _ids(workspace: Workspace) -> list[str]:
    return sorted(row["id"] for row in workspace.api.control.images())


def _all_keys(workspace: Workspace) -> list[str]:
    spec = workspace.settings.storage.spec
    return [key for folder in ("crops", "receipts", "reports") for key in storage.list_keys(spec, folder)]


@after_a_poll()
def test_a_forgotten_photo_leaves_nothing_and_never_comes_back(workspace: Workspace) -> None:
    gone, *others = _ids(workspace)
    before, rows = workspace.objects(), workspace.rows()
    # An older version of it that no current row names.
    workspace.api.control.change_box(gone)
    workspace.poll()
    everything = set(workspace.objects())
    mine = {key for key in everything if key not in {row["key"] for row in rows if row["image_id"] != gone}}
    assert len(mine) > len([row for row in rows if row["image_id"] == gone])

    erased = _forget(workspace, gone)

    receipt = _receipt(workspace, erased)
    assert [entry["image_id"] for entry in receipt["went"]] == [gone]
    assert set(receipt["went"][0]["objects"]) == mine
    (start, end) = _told(workspace, gone)[erased.erasure_id]
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert [data["facets"]["lifecycleStateChange"]["lifecycleStateChange"] for data in end["outputs"]] == [
        "OVERWRITE",
        "OVERWRITE",
    ]
    assert end["outputs"][0]["facets"]["version"]["datasetVersion"] == str(receipt["catalogue_version"])
    assert (receipt["images"], receipt["objects"], erased.in_progress) == (1, len(mine), 0)
    assert set(workspace.objects()) == everything - mine
    assert all(before[key] == data for key, data in workspace.objects().items())
    assert {row["image_id"] for row in workspace.rows()} == set(others) == set(workspace.states())
    # Announced again, changed: it stays away, and nothing else is disturbed.
    workspace.api.control.change_etag(gone)
    workspace.api.control.clear_log()
    funnel = workspace.poll()
    assert (funnel.landed, funnel.new, funnel.changed, funnel.batches) == (1, 0, 0, 0)
    assert gone not in workspace.api.control.counts()
    assert set(workspace.states()) == set(others)


@after_a_poll()
def test_many_photos_leave_the_catalogue_in_one_commit_however_they_are_collected(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cropline.erasure.erase._PORTION", 1)
    gone, catalogue = _ids(workspace)[:3], Catalogue(workspace.settings.storage.spec)
    before = catalogue.version()
    assert before is not None
    erased = _forget(workspace, *gone)
    assert catalogue.version() == before + 1
    assert sorted(entry["image_id"] for entry in _receipt(workspace, erased)["went"]) == gone
    assert not {row["image_id"] for row in workspace.rows()} & set(gone)


@after_a_poll()
def test_a_dry_run_counts_what_goes_and_changes_nothing(workspace: Workspace) -> None:
    store = workspace.rows()[0]["store_id"]
    end, keys = workspace.end_state(), _all_keys(workspace)
    settings = workspace.settings
    with State.open(settings.state) as state:
        estimated = estimate(settings.storage.spec, state, "cams", Selection(stores=(store,)))
    assert (workspace.end_state(), _all_keys(workspace)) == (end, keys)
    erased = _forget(workspace, stores=(store,))
    assert (estimated.images, estimated.rows, estimated.objects) == (erased.images, erased.rows, erased.objects)
    assert erased.rows == len(end["rows"]) - len(workspace.rows()) > 0
    assert all(row["store_id"] != store for row in workspace.rows())


@after_a_poll()
def test_photos_before_a_day_go_and_later_ones_stay(workspace: Workspace) -> None:
    moments = sorted({row["captured_at"] for row in workspace.rows()})
    erased = _forget(workspace, before=moments[2])
    assert erased.images == 2
    assert sorted({row["captured_at"] for row in workspace.rows()}) == moments[2:]


def test_photos_in_work_are_forgotten_when_their_batch_ends(workspace: Workspace) -> None:
    from flows.poll import poll

    workspace.set(BATCH__IMAGES="3")
    poll(max_batches=1)
    settings = workspace.settings
    # A poll that claimed it an hour ago was killed; its batch will be resumed.
    with State.open(settings.state, clock=lambda: datetime.now(UTC) - timedelta(hours=1)) as state:
        batch = state.claim(limit=3, owner="a poll that is killed")
    assert batch is not None
    held = batch.images["image_id"].to_pylist()[0]
    with State.open(settings.state) as state:
        done = next(name for name, word in workspace.states().items() if word == "done")
        selected = Selection(images=(held, done))
        erased = forget(settings.storage.spec, state, "cams", selected, event_emitter(settings, state))
        assert (erased.in_progress, erased.receipt, erased.images) == (1, None, 1)
        assert [told["eventType"] for told in _told(workspace, held, done)[erased.erasure_id]] == ["START"]
        assert workspace.states()[held] == "claimed"
    assert workspace.process().resumed == 1
    left = set(_ids(workspace)) - {held, done}
    assert {row["image_id"] for row in workspace.rows()} == left == set(workspace.states())
    assert {row["key"] for row in workspace.rows()} == set(workspace.objects())
    (receipt,) = storage.list_keys(settings.storage.spec, "receipts")
    went = json.loads(storage.read(settings.storage.spec, receipt))["went"]
    assert [entry["image_id"] for entry in went] == sorted([held, done])
    # The run that finished it has sent its lineage.
    sent = storage.read(settings.storage.spec, "lineage/events.ndjson").decode().splitlines()
    told = [event for event in map(json.loads, sent) if event["job"]["name"] == "cropline.erasure"]
    assert [event["eventType"] for event in told] == ["START", "COMPLETE"]
    assert held not in json.dumps(told)
    assert all(entry["rows"] and entry["objects"] for entry in went)


PACKED = '{"default": {}, "tar": {"output": "shards"}, "table": {"output": "parquet"}}'
PACK_PLACES = [
    (function, event)
    for function in ("Catalogue.rewrite_shard", "Spool.put", "Catalogue.forget_images", "delete")
    for event in ("call", "return")
]


def _bytes_of_packs(workspace: Workspace) -> list[bytes]:
    spec = workspace.settings.storage.spec
    return [storage.read(spec, key) for key in storage.list_keys(spec, "shards")]


def _readable(workspace: Workspace, but: str = "") -> dict[tuple[str, str, int], str]:
    """Return each row's crop hash by photo, profile and box, read as users do. ``but``: a photo to leave out."""
    spec = workspace.settings.storage.spec
    return {
        (row["image_id"], row["profile"], row["box_index"]): hashlib.sha256(
            cropline.open_crop(row, spec).read()
        ).hexdigest()
        for row in workspace.rows()
        if row["image_id"] != but
    }


@after_a_poll(PROFILES=PACKED)
def test_packs_are_rewritten_without_a_forgotten_photo_wherever_it_is_killed(workspace: Workspace) -> None:
    workspace.set(STATE__LEASE_S="0.2")
    gone = _ids(workspace)[0]
    # A pack also holds an older version of one of its boxes, which no current row names.
    old = {
        row["sha256"]: cropline.open_crop(row, workspace.settings.storage.spec).read()
        for row in workspace.rows()
        if row["image_id"] == gone and row["profile"] != "default"
    }
    workspace.api.control.change_box(gone)
    workspace.poll()
    others = _readable(workspace, but=gone)
    assert all(any(data in pack for pack in _bytes_of_packs(workspace)) for data in old.values())
    kept = workspace.folder / "kept"
    _copy(workspace.folder, kept)
    for function, event in [("", ""), *PACK_PLACES]:
        _copy(kept, workspace.folder)
        if function:
            killed = workspace.run(KILLED_AT.format(function=function, event=event, image=gone))
            assert killed.returncode == -signal.SIGKILL, (function, event, killed.stderr[-1000:])
            # The others are complete at every step.
            assert _readable(workspace, but=gone) == others, (function, event)
        receipt = _receipt(workspace, _forget_again(workspace, gone))
        assert len(receipt["packs"]) >= 2
        assert _readable(workspace) == others
        packs = _bytes_of_packs(workspace)
        assert not any(data in pack for pack in packs for data in old.values()), (function, event)
        assert not any(gone.encode() in pack for pack in packs)
        spec = workspace.settings.storage.spec
        named = {row["shard"] for row in workspace.rows() if row["shard"]}
        lying = {key for key in storage.list_keys(spec, "shards") if not key.endswith(".json")}
        # The next call makes the same new pack as the killed call; nothing else may be left.
        assert lying == named, (function, event)


@after_a_poll(PROFILES=PACKED)
@pytest.mark.parametrize(("function", "event"), [("Catalogue.append", "call"), ("State.commit", "return")])
def test_crops_that_a_poll_takes_over_move_with_their_pack_when_its_neighbour_is_forgotten(
    workspace: Workspace, function: str, event: str
) -> None:
    """The erasure moves them after the poll read their place: before its commit, or between commit and check."""
    gone, changed = _ids(workspace)[:2]
    workspace.api.control.change_box(changed)
    with calling_at(function, event, lambda: _assert_erased(workspace, gone)):
        assert workspace.poll().images == 1
    rows = {row["key"]: row["sha256"] for row in workspace.rows() if row["status"] == "written"}
    assert Counter(_readable(workspace).values()) == Counter(rows.values())
    batches = {row["batch_id"] for row in workspace.rows() if row["image_id"] == changed}
    taken_over = [row for row in workspace.rows() if row["shard"] and row["shard"].split("/")[2] != row["batch_id"]]
    assert len(batches) == 1
    assert {row["image_id"] for row in taken_over} == {changed}


@after_a_poll()
def test_an_erasure_finished_by_another_run_keeps_its_receipt(workspace: Workspace) -> None:
    """A poll has read which erasures are open, and reaches this one after the command has finished it."""
    gone, spec = _ids(workspace)[0], workspace.settings.storage.spec
    with State.open(workspace.settings.state) as state:
        begun = state.begin_erasure("cams", Selection(images=(gone,)).text, image_ids=[gone])
        erased = finish(spec, state, begun)
        receipt = _receipt(workspace, erased)
        assert finish(spec, state, begun) == erased
        # Killed before it could remove its log; the log of another, open erasure is needed.
        open_one = state.begin_erasure("cams", Selection(images=("other",)).text, image_ids=["other"])
        for key in (f"{begun.erasure_id}/a.json", f"{open_one.erasure_id}/a.json", f"{open_one.erasure_id}.json"):
            storage.write(spec, f"receipts/{key}", b"{}")
    _forget(workspace, gone)
    logs = [key for key in storage.list_keys(spec, "receipts") if key.count("/") == 2]
    assert logs == [f"receipts/{open_one.erasure_id}/a.json"]
    assert _receipt(workspace, erased) == receipt
    assert receipt["images"] == 1


@after_a_poll()
def test_an_erasure_that_lost_its_lease_removes_nothing_more(workspace: Workspace) -> None:
    """It asks the state at that time; its heartbeat may not have noticed yet."""
    gone, before = _ids(workspace)[0], workspace.objects()

    def erased_by(holder: str | None) -> None:
        with sqlite3.connect(workspace.folder / "state.db") as state:
            state.execute("UPDATE sources SET eraser = ?", (holder,))

    with calling_at("collect", "return", lambda: erased_by("another")), pytest.raises(StaleLease):
        _forget(workspace, gone)
    assert workspace.objects() == before
    assert not storage.list_keys(workspace.settings.storage.spec, "receipts")
    erased_by(None)
    _assert_erased(workspace, gone)


@after_a_poll(PROFILES=PACKED)
def test_an_erasure_that_loses_its_lease_while_packing_finishes_nothing(workspace: Workspace) -> None:
    """Meanwhile another takes over and moves the crops of both to other packs, which the stalled one has not seen."""
    one, two = _ids(workspace)[:2]

    def taken_over() -> None:
        with sqlite3.connect(workspace.folder / "state.db") as state:
            state.execute("UPDATE sources SET eraser = NULL")
        _assert_erased(workspace, two)

    with calling_at("Spool.put", "call", taken_over), pytest.raises(StaleLease):
        _forget(workspace, one)
    _assert_erased(workspace, one)
    # The stalled one wrote back a pack with the second photo. No row names it, so orphan removal deletes it.
    for path in (workspace.folder / "output" / "shards").rglob("*"):
        os.utime(path, (0, 0))
    with State.open(workspace.settings.state) as state:
        remove_orphans(workspace.settings.storage.spec, state, safe=timedelta(days=1), dry_run=False)
    assert not any(photo.encode() in pack for pack in _bytes_of_packs(workspace) for photo in (one, two))
    assert Counter(_readable(workspace).values()) == Counter(row["sha256"] for row in workspace.rows())


@after_a_poll(PROFILES=PACKED)
def test_an_erasure_that_resumes_after_another_finished_it_removes_no_crop(workspace: Workspace) -> None:
    """Both make the same pack of the remaining crops, under the same key."""
    one = _ids(workspace)[0]

    def taken_over() -> None:
        with sqlite3.connect(workspace.folder / "state.db") as state:
            state.execute("UPDATE sources SET eraser = NULL")
        _assert_erased(workspace, one)

    with calling_at("Spool.put", "call", taken_over), pytest.raises(StaleLease):
        _forget(workspace, one)
    assert Counter(_readable(workspace).values()) == Counter(row["sha256"] for row in workspace.rows())


@after_a_poll(PROFILES=PACKED)
def test_two_erasures_never_run_at_once(workspace: Workspace) -> None:
    """The second starts when the first has written, not committed, a pack that still holds the second's photo."""
    one, two = _ids(workspace)[:2]
    met: list[ErasureResult] = []
    with calling_at("Spool.put", "return", lambda: met.append(_forget(workspace, two))):
        _assert_erased(workspace, one)
    assert [(erased.waits, erased.receipt, erased.images) for erased in met] == [(True, None, 0)]
    # Its tombstone is written; the next run finishes it.
    assert two not in workspace.states()
    workspace.api.control.change_box(_ids(workspace)[2])
    workspace.poll()
    assert len(storage.list_keys(workspace.settings.storage.spec, "receipts")) == 2
    assert not {one, two} & {row["image_id"] for row in workspace.rows()}
    for pack in _bytes_of_packs(workspace):
        assert one.encode() not in pack
        assert two.encode() not in pack
    assert Counter(_readable(workspace).values()) == Counter(row["sha256"] for row in workspace.rows())


def _assert_erased(workspace: Workspace, *images: str) -> None:
    assert _forget(workspace, *images).receipt is not None


@after_a_poll()
def test_an_erasure_killed_anywhere_and_run_again_ends_the_same(workspace: Workspace) -> None:
    workspace.set(STATE__LEASE_S="0.2")  # a killed erasure does not keep the next one waiting
    gone = _ids(workspace)[0]
    kept = workspace.folder / "kept"
    _copy(workspace.folder, kept)
    erased = _forget(workspace, gone)
    undisturbed = (_receipt(workspace, erased)["went"], workspace.end_state())
    for function, event in PLACES:
        _copy(kept, workspace.folder)
        killed = workspace.run(KILLED_AT.format(function=function, event=event, image=gone))
        assert killed.returncode == -signal.SIGKILL, (function, event, killed.stderr[-1000:])
        _forget_again(workspace, gone)
        # Killed after its end it starts again and finds nothing: the first receipt stays unchanged.
        spec = workspace.settings.storage.spec
        first = min(key for key in storage.list_keys(spec, "receipts") if key.count("/") == 1)
        went = json.loads(storage.read(spec, first))["went"]
        # The next run emits its lineage, exactly once despite any kill.
        left = workspace.end_state() | {"unpublished": undisturbed[1]["unpublished"]}
        assert (went, left) == undisturbed, (function, event)
        for events in _told(workspace, gone).values():
            assert [told["eventType"] for told in events] == ["START", "COMPLETE"], (function, event)


def _copy(source: Path, target: Path) -> None:
    for name in ("output", "state.db"):
        shutil.rmtree(target / name, ignore_errors=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        else:
            target.mkdir(exist_ok=True)
            shutil.copy(source / name, target / name)
            for beside in ("state.db-wal", "state.db-shm"):
                (target / beside).unlink(missing_ok=True)
                if (source / beside).exists():
                    shutil.copy(source / beside, target / beside)

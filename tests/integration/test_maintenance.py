"""Maintenance of the store: orphans and expired objects go, everything needed stays, a dry run changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cropline.catalogue import Catalogue
from cropline.core import storage
from cropline.core.errors import StorageError
from cropline.core.keys import image_key
from cropline.maintenance import CleanupResult, remove_orphans
from cropline.maintenance.retention import apply_retention, expire_crops
from cropline.state import State
from tests.integration.conftest import Workspace, after_a_poll, artifact_text
from tests.integration.killing import AT

DAY = 86_400


def _age(root: Path, days: float, *prefixes: str) -> None:
    """Make everything below look that many days old."""
    moment = time.time() - days * DAY
    for prefix in prefixes:
        for path in (root / prefix).rglob("*"):
            os.utime(path, (moment, moment))


def _sweep(workspace: Workspace, *, dry_run: bool = False) -> dict[str, CleanupResult]:
    settings = workspace.settings
    with State.open(settings.state) as state:
        found = remove_orphans(settings.storage.spec, state, safe=settings.retention.orphans, dry_run=dry_run)
    return {taken.what: taken for taken in found}


def _lost(root: Path, workspace: Workspace) -> list[Path]:
    """Create what killed attempts leave: a crop, a tar with its index, a half-written file."""
    folder = root / Path(workspace.rows()[0]["key"]).parent
    paths = [
        folder.parent.parent / "gone-0123456789abcdef" / "ff" / "0000-x.jpg",
        root / "shards/default-x/20260101-1/aaaa.tar",
        root / "shards/default-x/20260101-1/aaaa.json",
        folder / "0000-b.jpg#123",
    ]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"lost" * 100)
    return paths


def _never(*_: Any) -> bytes:
    raise AssertionError("an object is read whole")


def test_orphans_that_are_old_enough_go_and_nothing_else(workspace: Workspace) -> None:
    workspace.set(PROFILES='{"default": {}, "packed": {"output": "shards"}}')
    workspace.poll()
    root = workspace.folder / "output"
    before = {path for path in root.rglob("*") if path.is_file()}
    lost = _lost(root, workspace)
    assert {name: taken.count for name, taken in _sweep(workspace).items()} == {"orphans": 0, "unfinished files": 0}
    _age(root, 3, "crops", "shards")
    estimated = _sweep(workspace, dry_run=True)
    assert all(path.exists() for path in lost)
    assert _sweep(workspace) == estimated
    assert (estimated["orphans"], estimated["unfinished files"].count) == (CleanupResult("orphans", 3, 1200), 1)
    assert {path for path in root.rglob("*") if path.is_file()} == before
    assert _sweep(workspace)["orphans"].count == 0


@after_a_poll()
def test_crops_of_versions_that_can_still_be_read_stay(workspace: Workspace) -> None:
    old = workspace.objects()
    workspace.api.control.change_box(workspace.rows()[0]["image_id"])
    workspace.poll()
    _age(workspace.folder / "output", 30, "crops")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cropline.core.storage.read", _never)  # no catalogue file is read whole
        assert _sweep(workspace)["orphans"].count == 0
    assert set(old) < set(workspace.objects())
    # Once no version names them they are orphans.
    _forget_old_versions(workspace)
    assert _sweep(workspace)["orphans"].count > 0
    assert {row["key"] for row in workspace.rows()} == set(workspace.objects())


def _forget_old_versions(workspace: Workspace) -> None:
    """As compaction and vacuum do after a month."""
    Catalogue(workspace.settings.storage.spec).maintain(vacuum_after=None)
    current = {Path(path).name for path in _files_of_newest(workspace)}
    for path in (workspace.folder / "output" / "catalogue").rglob("*.parquet"):
        if path.name not in current and "_delta_log" not in path.parts:
            path.unlink()


def _files_of_newest(workspace: Workspace) -> list[str]:
    from deltalake import DeltaTable

    return DeltaTable(str(workspace.folder / "output" / "catalogue")).file_uris()


def test_crops_of_an_open_batch_and_of_photos_that_wait_stay(workspace: Workspace) -> None:
    workspace.set(STATE__LEASE_S="0.2", BATCH__IMAGES="3")
    workspace.run(AT.format(function="Catalogue.append", event="call", signal="SIGKILL"))
    stored = workspace.objects()
    assert stored
    assert workspace.rows() == []
    _age(workspace.folder / "output", 30, "crops")
    assert _sweep(workspace)["orphans"].count == 0, "a batch is open whose photos these are"
    workspace.poll()
    assert set(stored) <= set(workspace.objects())


def test_crops_of_photos_that_wait_stay_whatever_their_source(workspace: Workspace) -> None:
    gone = workspace.api.control.images()[0]["id"]
    workspace.api.control.add_fault("image_500", image_id=gone)
    workspace.set(API__SOURCE="roof")
    workspace.poll()
    waiting, nobodys = (
        workspace.folder / "output" / "crops" / "default-x" / image_key(source, gone) / "0000-a.jpg"
        for source in ("roof", "cellar")
    )
    for path in (waiting, nobodys):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"crop")
    _age(workspace.folder / "output", 30, "crops")
    workspace.set(API__SOURCE="cams")
    assert _sweep(workspace)["orphans"].count == 1
    assert (waiting.exists(), nobodys.exists()) == (True, False)


def test_an_invalid_safe_age_is_refused(workspace: Workspace) -> None:
    from datetime import timedelta

    with State.open(workspace.settings.state) as state, pytest.raises(StorageError, match="too short"):
        remove_orphans(workspace.settings.storage.spec, state, safe=timedelta(hours=1), dry_run=False)


def test_crops_past_their_profiles_days_go_with_their_rows_and_are_not_cut_again(workspace: Workspace) -> None:
    profiles = '{"default": {}, "short": {"retention_days": 7}, "packed": {"retention_days": 7, "output": "shards"}}'
    workspace.set(PROFILES=profiles)
    workspace.poll()
    settings, spec = workspace.settings, workspace.settings.storage.spec
    with State.open(settings.state) as state:
        assert [taken.count for taken in expire_crops(spec, state, settings, dry_run=False)] == [0, 0]
        _commit_days_ago(workspace, 8)
        before = workspace.rows()
        estimated = expire_crops(spec, state, settings, dry_run=True)
        assert workspace.rows() == before
        assert expire_crops(spec, state, settings, dry_run=False) == estimated
    assert [taken.count for taken in estimated] == [len(before) // 3] * 2
    assert {row["profile"] for row in workspace.rows()} == {"default"}
    assert {row["key"] for row in workspace.rows()} == set(workspace.objects())
    assert storage.list_keys(spec, "shards") == []
    assert workspace.poll().nothing_new


def _commit_days_ago(workspace: Workspace, days: int) -> None:
    """Change the rows to what a commit on that day would have written."""
    from datetime import timedelta

    from deltalake import DeltaTable, write_deltalake

    path = str(workspace.folder / "output" / "catalogue")
    rows: list[dict[str, Any]] = Catalogue(workspace.settings.storage.spec).rows().to_pylist()
    for row in rows:
        row["committed_at"] -= timedelta(days=days)
    import pyarrow as pa

    from cropline.catalogue import CATALOGUE

    write_deltalake(DeltaTable(path), pa.Table.from_pylist(rows, schema=CATALOGUE), mode="overwrite")


def test_manifests_quarantine_and_reports_expire_except_manifests_in_use(workspace: Workspace) -> None:
    workspace.set(RETENTION__MANIFESTS_DAYS="1", RETENTION__QUARANTINE_DAYS="1", RETENTION__REPORTS_DAYS="1")
    workspace.poll()
    spec = workspace.settings.storage.spec
    for key in (
        "quarantine/cams/2020-01-01/a.parquet",
        "reports/2020-01-01/poll-1.html",
        "reports/2020-01-01/poll-1.jpg",
    ):
        storage.write(spec, key, b"x")
    (manifest,) = storage.list_keys(spec, "manifests")
    with State.open(workspace.settings.state) as state:
        state.requeue(states=["done"], images=[workspace.rows()[0]["image_id"]])
        first = {taken.what: taken.count for taken in apply_retention(spec, state, workspace.settings, dry_run=False)}
    assert list(first.values()) == [0, 1, 2]
    assert storage.list_keys(spec, "manifests") == [manifest], "a work still needs it"
    workspace.process()
    with State.open(workspace.settings.state) as state:
        estimated = apply_retention(spec, state, workspace.settings, dry_run=True)
        assert storage.list_keys(spec, "manifests") == [manifest]
        assert apply_retention(spec, state, workspace.settings, dry_run=False) == estimated
    assert storage.list_keys(spec, "manifests") == []
    assert len(storage.list_keys(spec, "reports")) == 6, "those of today's two runs stay: page, sheet and graph"


# Kills the parts of maintain at a function that the profiler watches.
UPKEEP_KILLED_AT = """
import os, signal, sys
from datetime import timedelta
from cropline.catalogue import Catalogue
from cropline.config.settings import load_settings
from cropline.state import State
from cropline.maintenance import apply_retention, expire_crops, remove_orphans
settings = load_settings()
spec = settings.storage.spec
def watch(frame, event, arg):
    if event == "{event}" and frame.f_code.co_qualname == "{function}":
        os.kill(os.getpid(), signal.SIGKILL)
with State.open(settings.state) as state:
    sys.setprofile(watch)
    apply_retention(spec, state, settings, dry_run=False)
    expire_crops(spec, state, settings, dry_run=False)
    Catalogue(spec).maintain(vacuum_after=timedelta(days=30))
    remove_orphans(spec, state, safe=settings.retention.orphans, dry_run=False)
"""
UPKEEP_PLACES = [
    ("Catalogue.expire", "return"),
    ("_delete_crops", "return"),
    ("Catalogue.maintain", "return"),
    ("_remove", "call"),
    ("delete", "call"),
]


def test_maintenance_killed_anywhere_and_run_again_ends_the_same(workspace: Workspace) -> None:
    profiles = {"default": {}, "short": {"retention_days": 7}, "packed": {"retention_days": 7, "output": "shards"}}
    workspace.set(PROFILES=json.dumps(profiles), RETENTION__REPORTS_DAYS="1")
    workspace.poll()
    _commit_days_ago(workspace, 8)
    root = workspace.folder / "output"
    storage.write(workspace.settings.storage.spec, "reports/2020-01-01/poll-1.html", b"x")
    _lost(root, workspace)
    _age(root, 40, "crops", "shards", "catalogue")
    kept = workspace.folder / "kept"
    shutil.copytree(root, kept)
    ends = []
    for function, event in [("", ""), *UPKEEP_PLACES]:
        shutil.rmtree(root)
        shutil.copytree(kept, root)
        if function:
            killed = workspace.run(UPKEEP_KILLED_AT.format(function=function, event=event))
            assert killed.returncode == -signal.SIGKILL, (function, killed.stderr[-1000:])
        again = workspace.run(UPKEEP_KILLED_AT.format(function="nowhere", event="call"))
        assert again.returncode == 0, again.stderr[-1000:]
        # Crops whose rows a killed call deleted wait until no catalogue version names them; nothing else does.
        _forget_old_versions(workspace)
        _sweep(workspace)
        lying = {path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] != "catalogue"}
        ends.append((workspace.rows(), lying))
        assert ends[-1] == ends[0], (function, event)
    assert {row["profile"] for row in ends[0][0]} == {"default"}
    assert {row["key"] for row in ends[0][0]} == set(workspace.objects())
    assert not (root / "reports/2020-01-01/poll-1.html").exists()


@after_a_poll()
def test_maintain_removes_what_its_dry_run_estimates_and_shows_both(workspace: Workspace) -> None:
    from flows.maintain import maintain

    root = workspace.folder / "output"
    _lost(root, workspace)
    _age(root, 3, "crops", "shards")
    _, estimated = maintain(dry_run=True)
    assert "| orphans | 3 |" in artifact_text("maintain-summary")
    _, taken = maintain(dry_run=False)
    assert taken == estimated
    assert "removed" in artifact_text("maintain-summary")

"""The catalogue, exports, erasure and orphan removal, on each kind of store."""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest

from cropline.catalogue import Appended, Catalogue
from cropline.config.state import StateSettings
from cropline.core import storage
from cropline.core.errors import StaleLease
from cropline.core.store_spec import StoreSpec
from cropline.erasure.traces import Packs, collect, remove
from cropline.export import Choice, Layout, export
from cropline.maintenance import remove_orphans
from cropline.packs import Sample, Spool, pack_folder
from cropline.state import State
from fugue_jobs.pool.storing import CropStore
from fugue_jobs.work import CropOutcome
from tests.unit.cropline.catalogue.test_catalogue import append, crops, keys
from tests.unit.fugue_jobs.imaging.cutting import work_for


def test_a_batch_is_appended_once_superseded_and_read_back(spec: StoreSpec) -> None:
    catalogue = Catalogue(spec)
    assert catalogue.batch_rows("batch-1") is None
    assert append(catalogue, crops(["a", "b"]), "batch-1").appended
    assert append(catalogue, crops(["a", "b"]), "batch-1", attempt=2).appended is False
    append(catalogue, crops(["a"], version="v2"), "batch-2", superseding=[("cameras", "a", "default")])
    assert keys(catalogue.rows()) == keys(crops(["a"], version="v2")) + keys(crops(["b"]))
    assert keys(catalogue.batch_rows("batch-1")) == keys(crops(["a", "b"]))
    found = catalogue.find(spec.uri("crops/default/cameras/b/v1/0000.jpg"))
    assert found is not None
    assert found["batch_id"] == "batch-1"
    assert catalogue.maintain().files_after == 1
    assert keys(catalogue.rows()) == keys(crops(["a"], version="v2")) + keys(crops(["b"]))


def test_attempts_that_commit_at_once_leave_one_content_and_a_fence_holds(spec: StoreSpec) -> None:
    catalogue = Catalogue(spec)
    append(catalogue, crops(["old"]), "batch-0")
    start = Barrier(4)

    def run(attempt: int) -> Appended:
        start.wait()
        return append(catalogue, crops([f"by-{attempt}"]), "batch-1", attempt=attempt)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, [1, 2, 3, 4]))
    (winner,) = [number for number, result in enumerate(results, 1) if result.appended]
    assert keys(catalogue.rows()) == keys(crops(["old"])) + keys(crops([f"by-{winner}"]))
    assert catalogue.fence("batch-2", 2) is False
    with pytest.raises(StaleLease):
        append(catalogue, crops(["late"]), "batch-2", attempt=1)


def test_writers_that_append_at_once_lose_nothing(spec: StoreSpec) -> None:
    catalogue = Catalogue(spec)
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda n: append(catalogue, crops([f"i{n}"]), f"batch-{n}").appended, range(5)))
    assert all(told)
    assert keys(catalogue.rows()) == keys(crops([f"i{n}" for n in range(5)]))


class _InThreeDays(datetime):
    """The clock of a maintenance run three days from now."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + timedelta(days=3)


def _stored(spec: StoreSpec, image: str, kind: str) -> list[dict[str, Any]]:
    """Store a crop of an image, as an object or in a pack, and return its row."""
    data = f"picture of {image}".encode()
    done = CropStore(spec).put(work_for(image_id=image), "b", CropOutcome(0, 0, "written", format="png"), data)
    row = crops([image], boxes=1, key=done.key, sha256=hashlib.sha256(data).hexdigest()).to_pylist()[0]
    row |= {"bytes": len(data)}
    if kind != "objects":
        storage.delete(spec, [done.key or ""])
        spool = Spool(spec, kind, pack_folder("default", "b"))
        spool.add(Sample(f"{image}-0", "png", {"key": done.key, "image_id": image, "sha256": row["sha256"]}, data))
        shard, sealed = spool.put()
        row |= {"shard": shard, "offset": sealed.offsets[0]}
    return [row]


def test_a_photo_is_exported_and_forgotten_and_orphans_are_swept(
    spec: StoreSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(spec)
    rows = [
        row
        for image, kind in (("a", "objects"), ("b", "shards"), ("c", "objects"))
        for row in _stored(spec, image, kind)
    ]
    append(catalogue, pa.Table.from_pylist(rows, schema=crops(["a"]).schema), "batch-1")
    assert export(spec, tmp_path / "out", Choice("image_id <> 'c'"), Layout("folder")).crops == 2

    gone = ["a", "b"]
    packs = Packs(spec, "cameras", gone)
    portion = collect(spec, "cameras", gone, packs)
    storage.delete(spec, portion.images[0].objects)  # as if an earlier erasure was killed here
    remove(spec, "cameras", portion, lambda: None)
    assert keys(catalogue.rows()) == keys(pa.Table.from_pylist(rows[2:]))
    assert storage.list_keys(spec, "crops") == [rows[2]["key"]]
    assert storage.list_keys(spec, "shards") == []

    storage.write(spec, "crops/default-1/cams-1/nobody/ff/0000-b.jpg", b"left by a killed attempt")
    monkeypatch.setattr(sys.modules["cropline.maintenance.orphans"], "datetime", _InThreeDays)
    with State.open(StateSettings(url=f"sqlite:///{tmp_path}/state.db")) as state:
        (orphans, *_) = remove_orphans(spec, state, safe=timedelta(days=2), dry_run=False)
    assert orphans.count == 1
    assert storage.list_keys(spec, "crops") == [rows[2]["key"]]

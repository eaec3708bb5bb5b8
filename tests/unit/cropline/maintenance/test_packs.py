"""Maintenance rewrites packs in which many crops are dead: what is current is in the new pack, and only that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import cropline
from cropline.catalogue import Catalogue
from cropline.config.state import StateSettings
from cropline.core import storage
from cropline.core.schemas import CROPS
from cropline.core.store_spec import StoreSpec
from cropline.maintenance import rewrite_packs
from cropline.packs import Sample, Spool, pack_folder
from cropline.packs.reading import list_packs, opened, samples
from cropline.state import State
from tests.unit.cropline.catalogue.test_catalogue import NOW

IMAGES = [f"i{number}" for number in range(10)]
DATA = {image: image.encode() * 2_000 for image in IMAGES}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    settings = StateSettings.model_validate({"url": f"sqlite:///{tmp_path / 'state.db'}"})
    with State.open(settings) as opened_:
        opened_.bind("a storage", "cameras", "http://127.0.0.1:1")
        yield opened_


def _packed(spec: StoreSpec, kind: str) -> str:
    """Store one pack of ten crops, with their rows. Return its key."""
    spool = Spool(spec, kind, pack_folder("default", "b1"))
    rows: list[dict[str, Any]] = []
    for image, data in DATA.items():
        key = f"crops/default/cameras/{image}/v1/0000.jpg"
        spool.add(Sample(f"cameras/{image}/v1/0000", "jpg", {"key": key, "source": "cameras", "image_id": image}, data))
        rows.append(
            {"source": "cameras", "image_id": image, "profile": "default", "version": "v1", "box_index": 0, "key": key}
            | {"status": "written", "bytes": len(data)}
        )
    pack, sealed = spool.put()
    rows = [row | {"shard": pack, "offset": at} for row, at in zip(rows, sealed.offsets, strict=True)]
    _append(spec, rows, "b1", set())
    return pack


def _append(spec: StoreSpec, rows: list[dict[str, Any]], batch: str, superseding: set[tuple[str, str, str]]) -> None:
    table = pa.Table.from_pylist(rows, schema=CROPS)
    Catalogue(spec).append(table, batch_id=batch, attempt=1, flow_run="f", committed_at=NOW, superseding=superseding)


def _supersede(spec: StoreSpec, images: list[str]) -> None:
    rows = [
        {"source": "cameras", "image_id": image, "profile": "default", "version": "v2", "box_index": 0}
        | {"status": "failed", "reason": "http_404", "xmin": 0.5}
        for image in images
    ]
    _append(spec, rows, "b2", {("cameras", image, "default") for image in images})


def _current(spec: StoreSpec) -> dict[str, bytes]:
    rows = Catalogue(spec).rows().to_pylist()
    return {row["image_id"]: cropline.open_crop(row, spec).read() for row in rows if row["status"] == "written"}


@pytest.mark.parametrize("kind", ["shards", "parquet"])
def test_a_pack_of_many_dead_crops_is_rewritten_once(tmp_path: Path, state: State, kind: str) -> None:
    spec = StoreSpec((tmp_path / "store").as_uri())
    pack = _packed(spec, kind)
    dead = IMAGES[:4]
    _supersede(spec, dead)
    live = {image: data for image, data in DATA.items() if image not in dead}
    planned = rewrite_packs(spec, state, dry_run=True)
    assert (planned.count, list_packs(spec)) == (1, [pack])
    done = rewrite_packs(spec, state, dry_run=False)
    assert (done.count, done.bytes) == (planned.count, planned.bytes)
    assert _current(spec) == live
    (new,) = set(Catalogue(spec).rows()["shard"].to_pylist()) - {None}
    assert new != pack
    with opened(spec, new) as file:
        assert {sample.facts["image_id"] for sample in samples(kind, file)} == set(live)
    assert storage.exists(spec, pack), "an earlier version of the catalogue still names it"
    assert rewrite_packs(spec, state, dry_run=False).count == 0


def test_a_pack_of_few_dead_crops_and_one_of_a_running_erasure_stay(tmp_path: Path, state: State) -> None:
    spec = StoreSpec((tmp_path / "store").as_uri())
    pack = _packed(spec, "shards")
    _supersede(spec, IMAGES[:3])
    assert rewrite_packs(spec, state, dry_run=False).count == 0
    _append(spec, [], "b3", set())
    Catalogue(spec).forget_images("cameras", IMAGES[3:6])
    assert state.acquire_erasure_lock("cameras", "an erasure")
    assert rewrite_packs(spec, state, dry_run=False).count == 0
    state.release_erasure_lock("cameras", "an erasure")
    assert rewrite_packs(spec, state, dry_run=False).count == 1
    assert pack not in Catalogue(spec).rows()["shard"].to_pylist()


def test_a_store_without_a_catalogue_has_nothing_to_rewrite(tmp_path: Path, state: State) -> None:
    assert rewrite_packs(StoreSpec((tmp_path / "none").as_uri()), state, dry_run=False).count == 0

"""Maintenance rewrites packs in which many crops are dead: what is current is in the new pack, and only that."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

import cropline
from cropline.catalogue import Catalogue
from cropline.config.state import StateSettings
from cropline.core import storage
from cropline.core.schemas import CROPS
from cropline.core.store_spec import StoreSpec
from cropline.erasure.erase import forget
from cropline.erasure.selection import Selection
from cropline.maintenance import index_packs, remove_orphans, rewrite_packs
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


def _packed(spec: StoreSpec, kind: str, profile: str = "default", pictures: dict[str, bytes] = DATA) -> str:
    """Store one pack of ten crops, with their rows. Return its key."""
    spool = Spool(spec, kind, pack_folder(profile, "b1"))
    rows: list[dict[str, Any]] = []
    for image, data in pictures.items():
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


def _indexed(spec: StoreSpec) -> dict[str, set[str]]:
    """Return each pack that has an index, with the photos of the crops that it names."""
    keys = [key for key in storage.list_keys(spec, "shards/") if key.endswith((".tar.current.json", "et.current.json"))]
    told = {key.removesuffix(".current.json"): json.loads(storage.read(spec, key))["keys"] for key in keys}
    return {pack: {key.split("/")[3] for key in named} for pack, named in told.items()}


@pytest.mark.parametrize("kind", ["shards", "parquet"])
def test_an_index_names_the_current_crops_of_each_pack_and_how_new_it_is(
    tmp_path: Path, state: State, kind: str
) -> None:
    spec = StoreSpec((tmp_path / "store").as_uri())
    pack = _packed(spec, kind)
    assert index_packs(spec, state) == 1
    assert _indexed(spec) == {pack: set(IMAGES)}
    _supersede(spec, IMAGES[:4])
    assert index_packs(spec, state) == 1
    assert _indexed(spec) == {pack: set(IMAGES[4:])}
    told = json.loads(storage.read(spec, "shards/current.json"))
    assert told["catalogue_version"] == Catalogue(spec).version()
    assert index_packs(spec, state) == 0, "nothing changed, so nothing is written"
    rewrite_packs(spec, state, dry_run=False)
    index_packs(spec, state)
    ((new, named),) = _indexed(spec).items()
    assert (new != pack, named) == (True, set(IMAGES[4:]))


def test_a_killed_or_hindered_run_claims_nothing_that_it_did_not_do(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = StoreSpec((tmp_path / "store").as_uri())
    pack = _packed(spec, "shards")
    index_packs(spec, state)
    before = storage.read(spec, "shards/current.json")
    _supersede(spec, IMAGES[:2])
    assert state.acquire_erasure_lock("cameras", "an erasure")
    assert index_packs(spec, state) == 0
    assert (storage.read(spec, "shards/current.json"), _indexed(spec)) == (before, {pack: set(IMAGES)})
    state.release_erasure_lock("cameras", "an erasure")
    with monkeypatch.context() as killing:
        killing.setattr(storage, "write", _killed)
        with pytest.raises(KeyboardInterrupt):
            index_packs(spec, state)
    assert storage.read(spec, "shards/current.json") == before
    assert index_packs(spec, state) == 1
    assert _indexed(spec) == {pack: set(IMAGES[2:])}


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_erased_crop_is_in_no_index_and_the_sweep_keeps_what_is_in_use(tmp_path: Path, state: State) -> None:
    spec = StoreSpec((tmp_path / "store").as_uri())
    pack = _packed(spec, "shards")
    index_packs(spec, state)
    for key in storage.list_keys(spec, "shards/"):
        os.utime(tmp_path / "store" / key, (0, 0))
    assert remove_orphans(spec, state, safe=timedelta(days=2), dry_run=False)[0].count == 0
    forget(spec, state, "cameras", Selection(images=(IMAGES[0],)))
    assert _indexed(spec) == {}
    assert not storage.exists(spec, pack)
    index_packs(spec, state)
    assert list(_indexed(spec).values()) == [set(IMAGES[1:])]


@pytest.mark.parametrize(
    ("kind", "profile", "tool"), [("shards", "train", "webdataset"), ("parquet", "table", "datasets")]
)
def test_the_readers_on_the_page_leave_out_superseded_crops(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    kind: str, profile: str, tool: str,
) -> None:  # fmt: skip
    spec = StoreSpec((tmp_path / "store").as_uri())
    drawn = io.BytesIO()
    Image.new("RGB", (8, 8)).save(drawn, "JPEG")
    _packed(spec, kind, profile, dict.fromkeys(IMAGES, drawn.getvalue()))
    _supersede(spec, IMAGES[:3])
    index_packs(spec, state)
    page = (Path(__file__).parents[4] / "docs" / "reading-crops.md").read_text(encoding="utf-8")
    snippets = re.findall(
        r"^```python\n(.*?)^```$", page.partition("## Current crops of packs")[2], re.MULTILINE | re.DOTALL
    )
    (snippet,) = (snippet for snippet in snippets if tool in snippet)
    monkeypatch.chdir(tmp_path)
    exec(snippet, {"storage": spec.url})
    assert capsys.readouterr().out.startswith(f"crops of {profile}: 7")

"""Exports that can be repeated: versions, samples, splits, and export.json, which tells how."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cropline.catalogue import CATALOGUE, Catalogue
from cropline.core.errors import CatalogueError, ExportError
from cropline.core.keys import crop_key
from cropline.core.schemas import CROPS
from cropline.core.storage import write
from cropline.core.store_spec import StoreSpec
from cropline.export import Choice, Layout, export, read_split
from tests.photos import drawn, encoded
from tests.unit.cropline.catalogue.test_catalogue import NOW
from tests.unit.cropline.export.test_export import _row

STORES, PHOTOS = 5, 40
DATA = encoded(drawn(40, 30, seed=1))


def _rows(images: range, **more: Any) -> list[dict[str, Any]]:
    """Two boxes a photo. Photos 0 and 20, 1 and 21, ... have the same bytes. Each store has eight photos."""
    rows = []
    for image in images:
        for box in range(2):
            key = crop_key("cams", f"photo {image}", "default", "f" * 64, box, f"b{box}", "jpg")
            about = {"key": key, "store_id": f"s{image % STORES}", "image_sha256": f"{image % 20}"}
            rows.append(_row(image, box, DATA, captured_at=None) | about | more)
    return rows


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> StoreSpec:
    """Version 1 has the first half of the photos, version 2 all of them."""
    spec = StoreSpec(tmp_path_factory.mktemp("store").as_uri())
    for batch, images in enumerate((range(PHOTOS // 2), range(PHOTOS // 2, PHOTOS))):
        for row in (rows := _rows(images)):
            write(spec, row["key"], DATA)
        table = pa.Table.from_pylist(rows, schema=CROPS)
        Catalogue(spec).append(table, batch_id=f"b{batch}", attempt=1, flow_run="run", committed_at=NOW)
    return spec


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_version_is_what_was_current_then(spec: StoreSpec, tmp_path: Path) -> None:
    for name, version in {"number": 1, "time": _between(spec)}.items():
        assert export(spec, tmp_path / name, Choice(version=version), Layout()).crops == PHOTOS
    assert export(spec, tmp_path / "newest", Choice(), Layout()).crops == 2 * PHOTOS


def _between(spec: StoreSpec) -> datetime:
    """Return a time between the commits of versions 1 and 2, by the table's own history."""
    from deltalake import DeltaTable

    table = DeltaTable(f"{spec.local_path}/catalogue")
    times = {entry["version"]: entry["timestamp"] for entry in table.history()}
    return datetime.fromtimestamp((times[1] + times[2]) / 2000, UTC)


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (99, "no version 99: it has 0 to 2"),
        (datetime(2020, 1, 1, tzinfo=UTC), "did not exist yet at 2020-01-01"),
    ],
)
def test_a_version_that_is_not_there_is_named(spec: StoreSpec, tmp_path: Path, version: Any, told: str) -> None:
    with pytest.raises(CatalogueError, match=told):
        export(spec, tmp_path / "out", Choice(version=version), Layout())
    assert list(tmp_path.iterdir()) == []


def test_a_sample_is_random_by_its_seed_and_else_the_same(spec: StoreSpec, tmp_path: Path) -> None:
    def keys(name: str, seed: int) -> list[str]:
        export(spec, tmp_path / name, Choice(sample=20, seed=seed), Layout())
        return [line["key"] for line in _lines(tmp_path / name)]

    one, again, other = keys("one", 1), keys("again", 1), keys("other", 2)
    assert one == again
    assert len(set(one)) == len(set(other)) == 20
    assert set(one) != set(other)
    first = export(spec, tmp_path / "first", Choice(limit=20), Layout())
    assert {line["key"] for line in _lines(first.folder)} != set(one)


def _split(
    spec: StoreSpec, out: Path, text: str, by: str | None = None, seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    split = read_split(text, by)
    export(spec, out, Choice(seed=seed), Layout(split=split))
    return {name: _lines(out / name) for name in split.shares}


def test_a_split_has_every_crop_once_and_no_photo_in_two_parts(spec: StoreSpec, tmp_path: Path) -> None:
    parts = _split(spec, tmp_path / "out", "train=0.6,val=0.2,test=0.2")
    assert sum(map(len, parts.values())) == 2 * PHOTOS
    assert all(parts.values())
    for column in ("image_id", "image_sha256"):
        of = {name: {line[column] for line in lines} for name, lines in parts.items()}
        assert sum(map(len, of.values())) == len(set().union(*of.values())), f"{column} leaks"


def test_a_split_by_store_keeps_each_store_in_one_part_and_counts_equal_photos(spec: StoreSpec, tmp_path: Path) -> None:
    done = export(spec, tmp_path / "out", Choice(seed=3), Layout(split=read_split("train=0.6,val=0.4", "store_id")))
    of = {name: {line["store_id"] for line in _lines(tmp_path / "out" / name)} for name in ("train", "val")}
    assert of["train"] | of["val"] == {f"s{number}" for number in range(STORES)}
    assert not of["train"] & of["val"]
    # Photos 0 and 20 are both of store 0: no bytes are in two parts.
    assert done.same_bytes == 0


def test_a_photo_stays_in_its_part_when_the_catalogue_grows(spec: StoreSpec, tmp_path: Path) -> None:
    split = read_split("train=0.5,val=0.5", None)
    export(spec, tmp_path / "early", Choice(version=1), Layout(split=split))
    export(spec, tmp_path / "late", Choice(), Layout(split=split))
    for name in split.shares:
        early, late = ({line["image_id"] for line in _lines(tmp_path / when / name)} for when in ("early", "late"))
        assert early <= late


@pytest.mark.parametrize(
    ("text", "by", "told"),
    [
        ("train=0.8", None, "add up to 0.8, not 1"),
        ("train=0.8,val=x", None, "'val=x' is not NAME=SHARE"),
        ("../x=0.5,val=0.5", None, "is not NAME=SHARE"),
        ("a=0.5,a=0.5", None, "a is there twice"),
        ("a=0.5,b=0.5", "nothing", "--by nothing: the catalogue has no such column"),
        ("a=0.5,b=0.5", "box_id", "--by box_id: photo photo 0 has several values of it"),
    ],
)
def test_a_split_that_cannot_be_is_named(spec: StoreSpec, tmp_path: Path, text: str, by: str | None, told: str) -> None:
    with pytest.raises(ExportError, match=told):
        _split(spec, tmp_path / "out", text, by)
    assert list(tmp_path.iterdir()) == []


def test_export_json_tells_how_to_repeat_the_export(spec: StoreSpec, tmp_path: Path) -> None:
    choice = Choice("store_id <> 's1'", (), None, 30, 7, _between(spec) + timedelta(days=1))
    split = read_split("train=0.5,val=0.5", "store_id")
    export(spec, tmp_path / "out", choice, Layout("parquet", split))
    told = json.loads((tmp_path / "out/export.json").read_text())
    assert told["profiles"] == ["default"]
    assert told["catalogue_version"] == 2
    assert datetime.fromisoformat(told["catalogue_committed_at"]).tzinfo is not None
    assert sum(counts["crops"] for counts in told["counts"].values()) == 30
    again = Choice(told["where"], (), told["limit"], told["sample"], told["seed"], told["catalogue_version"])
    export(spec, tmp_path / "again", again, Layout(told["format"], split))
    before, after = _files(tmp_path / "out"), _files(tmp_path / "again")
    before.pop("export.json"), after.pop("export.json")
    assert before == after


def test_parquet_has_every_column_of_webdataset_with_its_type_and_meaning(spec: StoreSpec, tmp_path: Path) -> None:
    import webdataset

    export(spec, tmp_path / "p", Choice(limit=1), Layout("parquet"))
    export(spec, tmp_path / "w", Choice(limit=1), Layout("webdataset"))
    schema = pq.read_schema(tmp_path / "p/000000.parquet")
    (sample,) = webdataset.WebDataset(str(tmp_path / "w/000000.tar"), shardshuffle=False)
    assert set(schema.names) == {"image", *json.loads(sample["json"])}
    for field in schema:
        if field.name != "image":
            assert field.type == CATALOGUE.field(field.name).type
            assert b"null" in field.metadata[b"comment"]
    row = pq.read_table(tmp_path / "p/000000.parquet").to_pylist()[0]
    assert row["committed_at"] == NOW


def test_limit_and_sample_exclude_each_other(spec: StoreSpec, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--limit or --sample"):
        export(spec, tmp_path / "out", Choice(limit=1, sample=1), Layout())


def test_crops_are_counted_by_part(spec: StoreSpec, tmp_path: Path) -> None:
    done = export(spec, tmp_path / "out", Choice(), Layout(split=read_split("a=0.5,b=0.5", None)))
    assert Counter({name: counts.crops for name, counts in done.parts.items()}).total() == 2 * PHOTOS

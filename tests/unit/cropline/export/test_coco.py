"""COCO exports, read by pycocotools: ids of labels stay, each box is there once, and every file_name is there."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pycocotools.coco import COCO

from cropline.catalogue import Catalogue
from cropline.core.errors import ExportError
from cropline.core.schemas import CROPS
from cropline.core.storage import write
from cropline.core.store_spec import StoreSpec
from cropline.export import Choice, Exported, Layout, PhotoFile, PhotoOfCrops, export
from tests.photos import drawn, encoded
from tests.unit.cropline.catalogue.test_catalogue import NOW
from tests.unit.cropline.export.test_export import _row

LABELS = {0: ("tea", "cola"), 1: ("cola", None), 2: ("", "beer")}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> StoreSpec:
    """Three photos of two boxes each, with the labels LABELS. Photo 2 has another version of photo 0's id."""
    spec = StoreSpec(tmp_path_factory.mktemp("store").as_uri())
    rows = []
    for image, labels in LABELS.items():
        for box, label in enumerate(labels):
            data = encoded(drawn(40, 30, seed=10 * image + box))
            row = _row(image, box, data, label=label, image_sha256=str(image), manifest="m", manifest_row=image)
            rows.append(row | ({"image_id": "photo 0", "version": "v2"} if image == 2 else {}))
            write(spec, row["key"], data)
    table = pa.Table.from_pylist(rows, schema=CROPS)
    Catalogue(spec).append(table, batch_id="b1", attempt=1, flow_run="run", committed_at=NOW)
    return spec


def _read(folder: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(folder / "annotations.json"))


def _export(spec: StoreSpec, out: Path, where: str | None = None, **layout: Any) -> Exported:
    return export(spec, out, Choice(where), Layout("coco", **layout))


def _labels(coco: COCO) -> dict[str, int]:
    return {entry["name"]: entry["id"] for entry in coco.loadCats(coco.getCatIds())}


def test_without_photos_each_crop_is_an_image_and_its_annotation_covers_it(spec: StoreSpec, tmp_path: Path) -> None:
    _export(spec, tmp_path / "out")
    coco = _read(tmp_path / "out")
    assert len(coco.getImgIds()) == len(coco.getAnnIds()) == 6
    for image in coco.loadImgs(coco.getImgIds()):
        with Image.open(tmp_path / "out" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert annotation["bbox"] == [0, 0, *picture.size]
        assert annotation["photo_bbox"][2:] == [40, 30]
    names = {number: name for name, number in _labels(coco).items()}
    told = [names[entry["category_id"]] for entry in coco.loadAnns(coco.getAnnIds())]
    assert sorted(told) == sorted(label or "unlabelled" for labels in LABELS.values() for label in labels)


def test_two_exports_of_one_version_agree_on_the_ids_of_labels(spec: StoreSpec, tmp_path: Path) -> None:
    _export(spec, tmp_path / "all")
    _export(spec, tmp_path / "some", "label = 'tea'")
    assert _labels(_read(tmp_path / "all")) == _labels(_read(tmp_path / "some"))
    assert _labels(_read(tmp_path / "all")) == {"beer": 1, "cola": 2, "tea": 3, "unlabelled": 4}


def test_a_file_of_categories_keeps_their_ids_and_gets_the_new_ones(spec: StoreSpec, tmp_path: Path) -> None:
    file = tmp_path / "categories.json"
    file.write_text('[{"id": 7, "name": "tea", "supercategory": "drinks"}, {"id": 9, "name": "milk"}]')
    _export(spec, tmp_path / "out", categories=file)
    expected = {"tea": 7, "milk": 9, "beer": 10, "cola": 11, "unlabelled": 12}
    assert _labels(_read(tmp_path / "out")) == expected
    assert {entry["name"]: entry["id"] for entry in json.loads(file.read_text())} == expected
    told = file.stat().st_mtime_ns
    _export(spec, tmp_path / "again", categories=file)
    assert _labels(_read(tmp_path / "again")) == expected
    assert file.stat().st_mtime_ns == told


@pytest.mark.parametrize(
    "text",
    ["no JSON", "[1]", '[{"id": 1}]', '[{"id": "1", "name": "a"}]', '[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]'],
)
def test_a_wrong_file_of_categories_is_named_and_kept(spec: StoreSpec, tmp_path: Path, text: str) -> None:
    file = tmp_path / "categories.json"
    file.write_text(text)
    with pytest.raises(ExportError, match=r"^--categories .*categories\.json: "):
        _export(spec, tmp_path / "out", categories=file)
    assert file.read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["categories.json"]


def test_with_photos_annotations_are_regions_of_photos_that_are_there(spec: StoreSpec, tmp_path: Path) -> None:
    asked: list[PhotoOfCrops] = []

    def cut(photos: Sequence[PhotoOfCrops], folder: Path) -> Iterator[PhotoFile]:
        asked.extend(photos)
        for number, photo in enumerate(photos):
            if photo.image_id == "photo 1":
                yield PhotoFile(None, None, None, "http_404: gone")
                continue
            path = folder / f"x/{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(drawn(400, 300, seed=number)))
            yield PhotoFile(f"x/{number}.jpg", 400, 300, None)

    done = _export(spec, tmp_path / "out", cut_photos=cut)
    assert [(photo.image_id, photo.version, photo.sha256, photo.manifest_row) for photo in asked] == [
        ("photo 0", "v1", "0", 0),
        ("photo 0", "v2", "2", 2),
        ("photo 1", "v1", "1", 1),
    ]
    coco = _read(tmp_path / "out")
    images = coco.loadImgs(coco.getImgIds())
    assert len({image["file_name"] for image in images}) == 2
    for image in images:
        with Image.open(tmp_path / "out" / image["file_name"]) as picture:
            assert picture.size == (400, 300) == (image["width"], image["height"])
        boxes = [entry["bbox"] for entry in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))]
        assert boxes == [[0, 5, 40, 30], [10, 5, 40, 30]]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"annotations.json", "export.json", "photos"}
    # Nothing is lost in silence: the crops without a photo are counted and named.
    assert done.missing == {("cams", "photo 1", "v1"): "http_404: gone"}
    assert (done.crops, done.parts[""].left_out) == (4, 2)
    told = json.loads((tmp_path / "out/export.json").read_text())
    assert [entry["image_id"] for entry in told["missing_photos"]] == ["photo 1"]

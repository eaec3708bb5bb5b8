"""An item of the API becomes a manifest row without loss, however odd it is."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cropline.config.settings import ApiSettings, FieldMap
from cropline.core import storage
from cropline.core.errors import ManifestError
from cropline.core.store_spec import StoreSpec
from cropline.intake import manifest

API = ApiSettings(source="cams", url="http://cameras.example")
BOX = {"id": "b1", "xmin": 0.1, "ymin": 0.2, "xmax": 0.3, "ymax": 0.4, "label": "cola", "score": 0.9}
ITEM: dict[str, Any] = {
    "id": "i1",
    "etag": "e1",
    "url": "http://cameras.example/i1.jpg?sig=canary",
    "captured_at": "2026-11-22T08:00:00Z",
    "updated_at": "2026-11-22T09:00:00+01:00",
    "store_id": 7,
    "camera_id": "c1",
    "width": 4000,
    "height": 3000,
    "bytes": 2_500_000,
    "sha256": "ab" * 32,
    "boxes": [BOX, BOX | {"id": "b2", "colour": "red"}],
    "firmware": "1.2",
}


def test_a_good_item_is_mapped_field_by_field() -> None:
    row = manifest.manifest_row(3, ITEM, API)
    assert row["row"] == 3
    assert (row["source"], row["image_id"], row["version"], row["store_id"]) == ("cams", "i1", "e1", "7")
    assert row["captured_at"] == datetime(2026, 11, 22, 8, tzinfo=UTC)
    assert row["updated_at"] == datetime(2026, 11, 22, 8, tzinfo=UTC)
    assert [box["box_id"] for box in row["boxes"]] == ["b1", "b2"]
    assert row["unreadable"] == []
    assert json.loads(row["raw"]) == ITEM, "as it came, so that it can be mapped again"


def test_fields_that_we_do_not_know_stay_in_attributes() -> None:
    row = manifest.manifest_row(0, ITEM, API)
    # The etag too: the version's path reads several fields, and all fields that a path reads stay.
    assert json.loads(row["attributes"]) == {"etag": "e1", "firmware": "1.2", "boxes": [{}, {"colour": "red"}]}


def test_the_version_falls_back_from_etag_to_hash_to_time() -> None:
    without = {k: v for k, v in ITEM.items() if k != "etag"}
    assert manifest.manifest_row(0, without, API)["version"] == "ab" * 32
    del without["sha256"]
    assert manifest.manifest_row(0, without, API)["version"] == ITEM["updated_at"]


@pytest.mark.parametrize(
    ("change", "unreadable"),
    [
        ({"id": {"a": 1}}, ["image_id"]),
        ({"id": "nul\x00"}, ["image_id"]),
        ({"id": "\ud800"}, ["image_id"]),
        ({"id": True}, ["image_id"]),
        ({"width": "wide"}, ["width"]),
        ({"bytes": 2**70}, ["bytes"]),
        ({"captured_at": "yesterday"}, ["captured_at"]),
        ({"captured_at": 1763798400}, ["captured_at"]),
        ({"captured_at": "9999-99-99"}, ["captured_at"]),
        ({"captured_at": "0001-01-01T00:00:00+23:00"}, ["captured_at"]),
        ({"boxes": "none"}, ["boxes"]),
        ({"boxes": [1]}, ["boxes"]),
        ({"boxes": [BOX | {"xmin": "left"}]}, ["boxes[0].xmin"]),
        ({"boxes": [BOX, BOX | {"ymax": True}]}, ["boxes[1].ymax"]),
        ({"boxes": [BOX | {"xmax": 10**400}]}, ["boxes[0].xmax"]),
    ],
)
def test_what_cannot_be_converted_is_named_and_kept_raw(change: dict[str, Any], unreadable: list[str]) -> None:
    item = ITEM | change
    row = manifest.manifest_row(0, item, API)
    assert row["unreadable"] == unreadable
    assert json.loads(row["raw"]) == json.loads(json.dumps(item))


@pytest.mark.parametrize(
    ("path", "unreadable"),
    [
        ({"image_id": "join('-', [site, id])"}, ["image_id"]),
        ({"width": "length(site)"}, ["width"]),
        ({"updated_at": "join('T', [site, id])"}, ["updated_at"]),
        ({"boxes": "sort_by(boxes, &odd)"}, ["boxes"]),
        ({"xmin": "abs(label)"}, ["boxes[0].xmin", "boxes[1].xmin"]),
    ],
)
def test_a_path_that_fails_on_an_item_spoils_that_field_and_no_poll(
    path: dict[str, str], unreadable: list[str]
) -> None:
    item = ITEM | {"site": 1, "boxes": [BOX | {"odd": 1}, BOX | {"odd": "a"}]}
    api = API.model_copy(update={"fields": FieldMap(**path)})
    row = manifest.manifest_row(0, item, api)
    assert row["unreadable"] == unreadable
    assert json.loads(row["raw"]) == item
    assert manifest.updated_at(item, api) == (None if "updated_at" in path else row["updated_at"])


@pytest.mark.parametrize("item", ["text", 5, None, [], [ITEM]])
def test_an_item_that_is_no_object_is_kept_raw(item: Any) -> None:
    row = manifest.manifest_row(0, item, API)
    assert row["unreadable"] == ["item"]
    assert json.loads(row["raw"]) == item


def test_other_apis_are_mapped_by_jmespath() -> None:
    api = ApiSettings(fields=FieldMap(image_id="meta.uuid", boxes="detections[].box", xmin="left", box_id="meta.n"))
    item = {"meta": {"uuid": "u1"}, "detections": [{"box": {"left": 0.5, "meta": {"n": 9}}}]}
    row = manifest.manifest_row(0, item, api)
    assert row["image_id"] == "u1"
    assert row["boxes"][0]["xmin"] == 0.5
    assert row["boxes"][0]["box_id"] == "9"
    assert json.loads(row["attributes"]) == item, "what a path reaches into stays whole"


def test_a_freshly_signed_url_is_the_same_item() -> None:
    again = ITEM | {"url": "http://cameras.example/i1.jpg?sig=other"}
    assert manifest.item_digest(ITEM) == manifest.item_digest(again)
    assert manifest.item_digest(ITEM) != manifest.item_digest(ITEM | {"etag": "e2"})


def test_odd_rows_survive_the_way_through_parquet(tmp_path: Path) -> None:
    items = [ITEM, "text", ITEM | {"id": "\ud800"}, ITEM | {"boxes": [BOX | {"xmin": float("nan")}]}, {}]
    rows = [manifest.manifest_row(n, item, API) for n, item in enumerate(items)]
    path = tmp_path / "m.parquet"
    assert manifest.write_rows(iter(rows), path, chunk=2) == len(items)
    assert pq.read_table(path)["row"].to_pylist() == [0, 1, 2, 3, 4]


def test_the_same_rows_land_once_under_one_key(tmp_path: Path) -> None:
    spec = StoreSpec((tmp_path / "out").as_uri())
    keys = []
    for name in ("a", "b"):
        manifest.write_rows([manifest.manifest_row(0, ITEM, API)], tmp_path / name)
        keys.append(manifest.land(tmp_path / name, "cams", "2026-11-22", spec))
    assert keys[0] == keys[1]
    assert storage.list_keys(spec, "manifests") == [keys[0]]
    assert manifest.read(spec, keys[0], ["image_id"])["image_id"].to_pylist() == ["i1"]


def test_a_manifest_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    storage.write(spec, "manifests/x.parquet", b"not parquet")
    with pytest.raises(ManifestError, match="manifests/x.parquet is not a manifest"):
        manifest.read(spec, "manifests/x.parquet")
    with pytest.raises(ManifestError, match="manifests/y.parquet"):
        manifest.read(spec, "manifests/y.parquet")


def test_an_item_that_is_too_long_is_mapped_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cropline.intake.manifest.MAX_RAW", 50)
    row = manifest.manifest_row(0, {"id": "a", "note": "x" * 50}, ApiSettings())
    assert (row["image_id"], row["raw"]) == ("a", None)


@pytest.mark.parametrize(
    ("value", "said"),
    [(True, True), ("2026-11-22", True), (1, True), ({"by": "me"}, True)]
    + [(value, False) for value in (None, False, 0, "", "false", "False", "0", "no", [], {})],
)
def test_an_item_says_whether_its_photo_was_deleted(value: Any, said: bool) -> None:
    api = ApiSettings(url="http://cameras.example", deleted="meta.gone")
    assert manifest.is_deleted(ITEM | {"meta": {"gone": value}}, api) is said
    assert not manifest.is_deleted(ITEM, api)
    assert not manifest.is_deleted(ITEM | {"gone": value}, API)

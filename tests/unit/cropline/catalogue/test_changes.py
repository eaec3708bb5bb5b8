"""cropline.changes: rows that came, changed and went between two versions, each once, by the cost of the change."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable

import cropline
from cropline.catalogue import Catalogue, net_changes
from cropline.core import storage
from cropline.core.errors import CatalogueError
from cropline.core.store_spec import StoreSpec
from tests.delta_log import rows_in
from tests.unit.cropline.catalogue.test_catalogue import NOW, append, crops
from tests.unit.cropline.catalogue.test_other_readers import COMMITS

Row = tuple[str, str, str]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(StoreSpec(tmp_path.as_uri()))


def _work(*images: str) -> set[tuple[str, str, str]]:
    return {("cameras", image, "default") for image in images}


def told(tmp_path: Path, since: Any, until: Any = None) -> list[Row]:
    """Return (change, image, key's version and box) of each change, in order."""
    found = cropline.changes(since, until=until, storage=tmp_path.as_uri())
    return sorted((row["change"], row["image_id"], "/".join(row["key"].split("/")[-2:])) for row in found)


def test_added_superseded_and_erased_rows_are_told_once(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a", "b", "c"], boxes=1), "1")
    start = catalogue.version()
    append(catalogue, crops(["d"], boxes=1), "2")
    append(catalogue, crops(["a"], boxes=1, version="v2"), "3", superseding=_work("a"))
    catalogue.forget_images("cameras", ["b"])
    assert told(tmp_path, start) == [
        ("added", "a", "v2/0000.jpg"),
        ("added", "d", "v1/0000.jpg"),
        ("erased", "b", "v1/0000.jpg"),
        ("superseded", "a", "v1/0000.jpg"),
    ]
    assert told(tmp_path, start, until=start + 1) == [("added", "d", "v1/0000.jpg")]
    assert told(tmp_path, catalogue.version()) == []


def test_the_table_that_the_page_builds_from_changes_has_the_current_rows_after_each(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed boxes have no key, and an erasure comes after the rows that the consumer has."""
    page = (Path(__file__).parents[4] / "docs" / "reading-crops.md").read_text()
    (snippet,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "mine.duckdb" in code]
    monkeypatch.chdir(tmp_path)
    failed = {"status": "failed", "reason": "http_4xx", "key": None}
    for does in (
        lambda: append(catalogue, pa.concat_tables([crops(["a", "b"]), crops(["x", "y"], **failed)]), "1"),
        lambda: None,
        lambda: append(catalogue, crops(["b", "x"], version="v2"), "2", superseding=_work("b", "x")),
        lambda: catalogue.forget_images("cameras", ["a", "y"]),
        lambda: append(catalogue, crops(["b"], **failed), "3", superseding=_work("b")),
    ):
        does()
        exec(snippet, {"storage": tmp_path.as_uri()})
        mine = duckdb.connect("mine.duckdb").execute("SELECT image_id, box_index, key FROM crops").fetchall()
        current = [(row["image_id"], row["box_index"], row["key"]) for row in rows_in(tmp_path / "catalogue")]
        assert Counter(mine) == Counter(current)


def test_an_erased_crop_is_told_by_its_ids_and_nothing_else(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"], boxes=1, label="face", store_id="s"), "1")
    catalogue.forget_images("cameras", ["a"])
    (row,) = cropline.changes(1, storage=tmp_path.as_uri())
    assert {name: value for name, value in row.items() if value is not None} == {
        "change": "erased", "change_version": 2, "source": "cameras", "image_id": "a", "profile": "default",
        "box_id": "b0", "key": "crops/default/cameras/a/v1/0000.jpg",
    }  # fmt: skip


def test_a_box_that_did_not_change_is_not_told_and_one_whose_label_changed_is_updated(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    append(catalogue, crops(["a"], boxes=3, label="cola"), "1")
    # As when a detector corrects one label: the crops keep their keys, and the batch is another one.
    again = crops(["a"], boxes=3, label="cola").to_pylist()
    again[1] |= {"label": "tea", "fingerprint": "other"}
    again[2] |= {"fingerprint": "other", "manifest": "later"}
    append(catalogue, pa.Table.from_pylist(again, schema=crops(["a"]).schema), "2", superseding=_work("a"))
    assert told(tmp_path, 1) == [("updated", "a", "v1/0001.jpg")]
    (row,) = cropline.changes(1, storage=tmp_path.as_uri())
    assert (row["label"], row["change_version"]) == ("tea", 2)


def test_what_came_and_went_in_between_and_what_only_moved_is_not_told(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"]), "1")
    append(catalogue, crops(["b"]), "2")
    append(catalogue, crops(["b"], version="v2"), "3", superseding=_work("b"))
    catalogue.maintain(vacuum_after=None)
    assert len(DeltaTable(str(tmp_path / "catalogue")).file_uris()) == 1
    assert {(change, image, key[:2]) for change, image, key in told(tmp_path, 1)} == {("added", "b", "v2")}
    assert told(tmp_path, 3) == []


def test_a_change_that_is_looked_at_in_many_parts_is_told_once(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(catalogue, crops(list("abc"), boxes=4), "1")
    append(catalogue, crops(list("ab"), boxes=4, version="v2"), "2", superseding=_work("a", "b"))
    whole = told(tmp_path, 1)
    assert len(whole) == 16
    monkeypatch.setattr(net_changes, "_ROWS_A_PART", 3)
    monkeypatch.setattr(net_changes, "_ROWS_AN_INSERT", 5)
    assert told(tmp_path, 1) == whole


def test_from_nothing_every_current_row_is_added(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a", "b"]), "1")
    append(catalogue, crops(["a"], version="v2"), "2", superseding=_work("a"))
    found = cropline.changes(storage=tmp_path.as_uri())
    rows = found.to_pandas()
    assert (found.since, found.version, sorted(rows["image_id"])) == (None, 2, ["a", "a", "b", "b"])
    assert set(rows["change"]) == {"added"}
    assert sorted(told(tmp_path, 0)) == sorted(told(tmp_path, None))


def test_applying_the_changes_of_every_step_gives_the_table(catalogue: Catalogue, tmp_path: Path) -> None:
    """A consumer's own copy, kept by its stored cursor, equals the table after each kind of commit. The oracle is delta-rs."""
    held: dict[tuple[str, str, str], dict[str, Any]] = {}
    cursor = None
    for name, (does, _) in COMMITS.items():
        does(catalogue)
        found = cropline.changes(cursor, storage=tmp_path.as_uri())
        for row in found:
            place = (row["image_id"], row["profile"], row["key"])
            if row["change"] in ("superseded", "erased"):
                del held[place]
            else:
                assert (place in held) == (row["change"] == "updated"), name
                held[place] = row
        cursor = found.version
        rows = pa.table(DeltaTable(str(tmp_path / "catalogue")).scan()).to_pylist()
        assert sorted(held) == sorted({(row["image_id"], row["profile"], row["key"]) for row in rows}), name
        shards = {row["key"]: row["shard"] for row in rows}
        assert {row["key"]: row["shard"] for row in held.values()} == shards, name


def test_a_time_means_the_version_at_that_time(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"]), "1")
    append(catalogue, crops(["b"]), "2")
    times = {entry["version"]: entry["timestamp"] for entry in DeltaTable(str(tmp_path / "catalogue")).history()}
    between = datetime.fromtimestamp((times[1] + times[2]) / 2000, UTC)
    assert {image for _, image, _ in told(tmp_path, between)} == {"b"}
    assert told(tmp_path, datetime.now(UTC) + timedelta(hours=1)) == []


def test_the_cost_is_that_of_the_change(catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        append(catalogue, crops([f"old-{number}"]), f"old-{number}")
    start = catalogue.version()
    append(catalogue, crops(["new"]), "new")
    opened: list[str] = []
    usual = storage.open_object
    monkeypatch.setattr(
        storage, "open_object", lambda spec, key, **more: opened.append(key) or usual(spec, key, **more)
    )
    assert {image for _, image, _ in told(tmp_path, start)} == {"new"}
    assert len(opened) == 1, "only the new file"


def _without_log(folder: Path) -> None:
    for version in range(2):
        (folder / f"catalogue/_delta_log/{version:020d}.json").unlink()


def _without_files(folder: Path) -> None:
    for path in (folder / "catalogue").glob("captured_date*/*.parquet"):
        path.unlink()


@pytest.mark.parametrize(
    ("since", "break_it", "message"),
    [
        (9, None, "no version 9: it has 0 to 2"),
        (0, _without_log, "no longer has version 1: read all rows once"),
        (1, _without_files, "maintenance has removed .*: read all rows once"),
        (datetime(2020, 1, 1, tzinfo=UTC), None, "did not exist yet"),
    ],
)
def test_what_cannot_be_told_is_an_error_that_says_what_to_do(
    catalogue: Catalogue, tmp_path: Path, since: Any, break_it: Callable[[Path], None] | None, message: str
) -> None:
    append(catalogue, crops(["a"]), "1")
    append(catalogue, crops(["b"]), "2")
    if break_it is not None:
        DeltaTable(str(tmp_path / "catalogue")).create_checkpoint()
        break_it(tmp_path)
    with pytest.raises(CatalogueError, match=message):
        told(tmp_path, since)


def test_a_store_without_a_catalogue_says_so(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no catalogue yet"):
        cropline.changes(storage=tmp_path.as_uri())


def test_boxes_that_failed_are_rows_too(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"], boxes=2, status="failed", reason="http_404", key=None), "1")
    append(catalogue, crops(["a"], boxes=2, status="written"), "2", superseding=_work("a"))
    changes = sorted((row["change"], row["status"]) for row in cropline.changes(1, storage=tmp_path.as_uri()))
    assert changes == [("added", "written")] * 2 + [("superseded", "failed")] * 2
    assert NOW in {row["committed_at"] for row in cropline.changes(1, storage=tmp_path.as_uri())}

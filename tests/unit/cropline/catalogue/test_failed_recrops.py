"""One current row per box, for any state, and no good row lost to a failure. Another engine reads the catalogue."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cropline.catalogue import Appended, Catalogue, Memory
from cropline.core.store_spec import StoreSpec
from tests.delta_log import rows_in
from tests.unit.cropline.catalogue.test_catalogue import NOW, crops

BOX = {"xmin": 0.1, "ymin": 0.1, "xmax": 0.5, "ymax": 0.5}
FAILED = {"status": "failed", "reason": "http_4xx", "detail": "404", "key": None, "bytes": None, "retry_after_s": 7}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(StoreSpec(tmp_path.as_uri()))


def knowing(*batches: str, until: int | None = None, unknown_batches: bool = False) -> Memory:
    return Memory(until, unknown_batches, lambda asked: set(asked) & set(batches))


def append(
    catalogue: Catalogue, table: pa.Table, batch: str, *, later_h: int = 0, works: Collection[str] = ("a",), **more: Any
) -> Appended:
    return catalogue.append(
        table,
        batch_id=batch,
        attempt=1,
        flow_run=f"run of {batch}",
        committed_at=NOW + timedelta(hours=later_h),
        superseding=more.get("superseding", ()),
        works=[("cameras", name, "default") for name in works],
        memory=more.get("memory"),
    )


def held(tmp_path: Path) -> list[dict[str, Any]]:
    """Return the table as others see it."""
    rows = rows_in(tmp_path / "catalogue")
    return sorted(rows, key=lambda row: (row["image_id"], row["profile"], row["box_index"], row["batch_id"]))


def of_work(name: str = "a") -> list[tuple[str, str, str]]:
    return [("cameras", name, "default")]


@pytest.mark.parametrize(
    "change", [{}, {"version": "v2"}, {"profile_hash": "other"}], ids=["again", "version", "recipe"]
)
def test_a_failure_leaves_the_good_row_of_its_box_and_is_told_beside_it(
    catalogue: Catalogue, tmp_path: Path, change: dict[str, str]
) -> None:
    append(catalogue, crops(["a"], **BOX), "one")
    done = append(catalogue, crops(["a"], **BOX, **change, **FAILED), "two", later_h=1, superseding=of_work())
    rows = held(tmp_path)
    assert [(row["status"], row["key"], row["fingerprint"], row["version"]) for row in rows] == [
        ("written", f"crops/default/cameras/a/v1/{box:04d}.jpg", "v1-a", "v1") for box in range(2)
    ]
    told = {(row["recrop_reason"], row["recrop_detail"], row["recrop_failed_at"]) for row in rows}
    assert told == {("http_4xx", "404", NOW + timedelta(hours=1))}
    assert {(row["batch_id"], row["reason"], row["committed_at"], row["flow_run"]) for row in rows} == {
        ("two", None, NOW, "run of one")
    }
    assert catalogue.batch_rows("two") == done.rows, "the outcomes can be derived of what the table holds"


def test_a_box_that_moved_or_never_had_a_crop_is_replaced_by_its_failure(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"], **BOX), "one")
    moved = pa.concat_tables(
        [crops(["a"], **BOX | {"xmax": 0.6}, **FAILED, boxes=1), crops(["a"], **BOX, **FAILED, boxes=3).slice(1)]
    )
    append(catalogue, moved, "two", superseding=of_work())
    assert [(row["box_index"], row["status"]) for row in held(tmp_path)] == [
        (0, "failed"),
        (1, "written"),
        (2, "failed"),
    ]


def test_a_good_crop_replaces_the_row_that_stayed_and_clears_what_was_told(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    append(catalogue, crops(["a"], **BOX), "one")
    append(catalogue, crops(["a"], **BOX, **FAILED), "two", superseding=of_work())
    append(catalogue, crops(["a"], **BOX, version="v3"), "three", superseding=of_work())
    assert {(row["version"], row["recrop_reason"], row["recrop_failed_at"]) for row in held(tmp_path)} == {
        ("v3", None, None)
    }


def test_boxes_that_share_an_id_and_a_place_keep_a_crop_each(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"], **BOX, box_id="same"), "one")
    append(catalogue, crops(["a"], **BOX, box_id="same", **FAILED), "two", superseding=of_work())
    assert [row["key"][-8:] for row in held(tmp_path)] == ["0000.jpg", "0001.jpg"]


def test_a_state_that_knows_nothing_supersedes_what_the_table_holds(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a", "b"], **BOX), "lost")
    done = append(catalogue, crops(["a"], **BOX, version="v2"), "two", memory=knowing("two"))
    assert done.unknown_batches
    assert [(row["image_id"], row["version"]) for row in held(tmp_path)] == [("a", "v2")] * 2 + [("b", "v1")] * 2
    append(
        catalogue,
        crops(["b"], **BOX, **FAILED),
        "three",
        works=["b"],
        memory=knowing("two", "three", until=3, unknown_batches=True),
    )
    assert [(row["image_id"], row["status"]) for row in held(tmp_path)] == [("a", "written")] * 2 + [
        ("b", "written")
    ] * 2


def test_a_restored_state_finds_the_batch_that_it_forgot(catalogue: Catalogue, tmp_path: Path) -> None:
    known = append(catalogue, crops(["z"]), "one").version
    append(catalogue, crops(["a"], **BOX, **FAILED), "forgotten")
    done = append(catalogue, crops(["a"], **BOX), "again", memory=knowing("one", "again", until=known))
    assert done.unknown_batches
    assert [(row["image_id"], row["status"], row["batch_id"]) for row in held(tmp_path)][:2] == [
        ("a", "written", "again")
    ] * 2


def test_a_table_restored_from_a_backup_has_each_box_once_though_the_state_knows_later_commits(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    append(catalogue, crops(["a"], **BOX), "one")
    shutil.copytree(tmp_path / "catalogue", tmp_path / "backup")
    until = append(catalogue, crops(["a"], **BOX, version="v2"), "two", superseding=of_work()).version
    shutil.rmtree(tmp_path / "catalogue")
    (tmp_path / "backup").rename(tmp_path / "catalogue")
    done = catalogue.append(
        crops(["a"], **BOX, version="v3"),
        batch_id="three",
        attempt=1,
        flow_run="run",
        committed_at=NOW,
        superseding=of_work(),
        committed_in=["two"],  # where the rows were, and where the state believes them
        memory=knowing("one", "two", "three", until=until),
    )
    assert done.unknown_batches, "the state looks everywhere from now on"
    assert [row["version"] for row in held(tmp_path)] == ["v3", "v3"]


def test_a_state_that_knows_every_commit_reads_the_log_and_no_row(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        append(catalogue, crops([f"z{number}"]), f"old {number}")
    catalogue.maintain(vacuum_after=None)
    monkeypatch.setattr("cropline.catalogue.positions.open_file", None)
    old = [f"old {number}" for number in range(3)]
    assert not append(catalogue, crops(["a"]), "new", memory=knowing(*old)).unknown_batches


def test_a_log_that_was_shortened_may_hide_an_unknown_batch(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"], **BOX), "one")
    catalogue.maintain(vacuum_after=None)
    (tmp_path / "catalogue" / "_delta_log" / f"{0:020d}.json").unlink()
    assert append(catalogue, crops(["a"], **BOX, version="v2"), "two", memory=knowing("one", "two")).unknown_batches
    assert {row["version"] for row in held(tmp_path)} == {"v2"}


def test_two_installations_that_race_leave_each_box_once(tmp_path: Path) -> None:
    images = [f"i{number}" for number in range(6)]

    def work(state: str) -> None:
        mine = Catalogue(StoreSpec(tmp_path.as_uri()))
        for image in images:
            table = crops([image], **BOX, version=state)
            append(mine, table, f"{state} {image}", works=[image], memory=knowing(*(f"{state} {i}" for i in images)))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ["left", "right"]))
    assert Counter((row["image_id"], row["box_index"]) for row in held(tmp_path)) == Counter(
        (image, box) for image in images for box in range(2)
    )


def test_maintenance_leaves_the_newest_good_row_of_a_doubled_box(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a", "b"], **BOX), "one")
    append(catalogue, crops(["a"], **BOX, version="v2"), "two", later_h=1)
    append(catalogue, crops(["a"], **BOX, version="v3", **FAILED), "three", later_h=2)
    assert catalogue.remove_duplicates(dry_run=True) == 4
    assert len(held(tmp_path)) == 8
    assert catalogue.remove_duplicates() == 4
    assert [(row["image_id"], row["version"], row["status"], row["recrop_reason"]) for row in held(tmp_path)] == [
        *[("a", "v2", "written", "http_4xx")] * 2,
        *[("b", "v1", "written", None)] * 2,
    ]
    assert catalogue.remove_duplicates() == 0


def test_what_another_installation_commits_between_the_look_and_the_write_is_superseded_too(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    append(catalogue, crops(["z"]), "mine")
    theirs: list[Appended] = []

    def knows(asked: Collection[str]) -> Collection[str]:
        if not theirs:
            theirs.append(append(catalogue, crops(["a"], **BOX), "theirs"))
        return set(asked) & {"mine", "next"}

    append(catalogue, crops(["a"], **BOX, version="v2"), "next", memory=Memory(None, False, knows))
    assert [row["version"] for row in held(tmp_path) if row["image_id"] == "a"] == ["v2", "v2"]

"""The oracle itself: each of its counts is off by one when one thing is wrong."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from tests.integration.oracle import Ledger, Place, Tally, books, boxes

LISTED = [{"id": "a", "boxes": [{"id": "b0"}, {"id": "b1"}]}, {"id": "c", "boxes": [{"id": "b0"}]}]
WANTED = boxes(LISTED)


def row(image: str, box: int, **values: Any) -> dict[str, Any]:
    key = f"crops/default/{image}/{box}.jpg"
    texts = {"image_id": image, "profile": "default", "box_id": f"b{box}", "status": "written", "key": key}
    texts |= {"reason": "", "sha256": "photo", "manifest": "m", "batch_id": "one"}
    numbers = dict.fromkeys(("box_index", "bytes", "width", "height", "manifest_row"), 1) | {"attempt": 1}
    return texts | numbers | values


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Three correct crops of two images."""
    rows = [row("a", 0), row("a", 1), row("c", 0)]
    write_deltalake(tmp_path / "catalogue", pa.Table.from_pylist(rows))
    for one in rows:
        (tmp_path / one["key"]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / one["key"]).write_bytes(one["key"].encode())
    with closing(sqlite3.connect(tmp_path / "state.db")) as state:
        state.executescript(
            """
            CREATE TABLE images (image_id, profile, state);
            INSERT INTO images VALUES ('a', 'default', 'done'), ('c', 'default', 'done');
            CREATE TABLE batches (state); INSERT INTO batches VALUES ('committed');
            CREATE TABLE sources (source, cursor); INSERT INTO sources VALUES ('cams', 'now');
            CREATE TABLE outbox (published_at); INSERT INTO outbox VALUES ('now');
            """
        )
    return Place(tmp_path.as_uri(), f"sqlite:///{tmp_path / 'state.db'}")


@pytest.fixture
def clean(place: Place) -> Ledger:
    return books(place)


def both(place: Place, clean: Ledger) -> tuple[Tally, Tally]:
    return books(place).against_boxes(WANTED), books(place).against(clean)


def test_nothing_is_off_when_nothing_was_done(place: Place, clean: Ledger) -> None:
    assert both(place, clean) == (Tally(), Tally())
    assert books(place) == clean
    assert place.appended() == WANTED.total() == 3


def test_a_missing_object_is_lost(place: Place, clean: Ledger, tmp_path: Path) -> None:
    (tmp_path / row("a", 1)["key"]).unlink()
    by_list, by_run = both(place, clean)
    assert (by_list, by_run.lost) == (Tally(lost=1), 1)


def test_an_object_of_other_bytes_is_no_copy(place: Place, clean: Ledger, tmp_path: Path) -> None:
    (tmp_path / row("a", 1)["key"]).write_bytes(b"other")
    assert books(place).against(clean) == Tally(lost=1, duplicated=1)


def test_a_missing_row_is_lost_and_its_object_orphaned(place: Place, clean: Ledger, tmp_path: Path) -> None:
    write_deltalake(tmp_path / "catalogue", pa.Table.from_pylist([row("a", 0), row("c", 0)]), mode="overwrite")
    assert both(place, clean) == (Tally(lost=1, orphaned=1), Tally(lost=1, orphaned=1))


def test_a_row_that_stands_there_twice_is_duplicated(place: Place, clean: Ledger, tmp_path: Path) -> None:
    write_deltalake(tmp_path / "catalogue", pa.Table.from_pylist([row("a", 0)]), mode="append")
    assert both(place, clean) == (Tally(duplicated=1), Tally(duplicated=1))
    assert place.appended() == 4


def test_two_boxes_that_name_one_object_are_duplicated(place: Place, tmp_path: Path) -> None:
    rows = [row("a", 0), row("a", 1, key=row("a", 0)["key"]), row("c", 0)]
    write_deltalake(tmp_path / "catalogue", pa.Table.from_pylist(rows), mode="overwrite")
    assert books(place).against_boxes(WANTED) == Tally(duplicated=1, orphaned=1)


def test_a_batch_with_rows_of_two_attempts_is_a_stale_commit(place: Place, clean: Ledger, tmp_path: Path) -> None:
    rows = [row("a", 0), row("a", 1, attempt=2), row("c", 0)]
    write_deltalake(tmp_path / "catalogue", pa.Table.from_pylist(rows), mode="overwrite")
    assert both(place, clean) == (Tally(duplicated=1), Tally(duplicated=1))


@pytest.mark.parametrize("name", ["crops/default/a/9.jpg", "crops/default/a/0.jpg#4711"])
def test_an_object_that_no_row_names_is_orphaned(place: Place, clean: Ledger, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert both(place, clean) == (Tally(orphaned=1), Tally(orphaned=1))


@pytest.mark.parametrize(
    "change",
    ["UPDATE images SET state = 'failed' WHERE image_id = 'a'", "INSERT INTO batches VALUES ('open')"],
)
def test_work_that_is_left_is_unfinished(place: Place, clean: Ledger, tmp_path: Path, change: str) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db")) as state, state:
        state.execute(change)
    assert both(place, clean) == (Tally(unfinished=1), Tally(unfinished=1))


def test_boxes_are_counted_as_they_are_listed() -> None:
    assert Counter({("a", "b0"): 1, ("a", "b1"): 1, ("c", "b0"): 1}) == WANTED

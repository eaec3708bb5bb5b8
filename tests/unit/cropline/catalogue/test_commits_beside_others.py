"""A commit that takes long beside others that take less: it comes after those that change nothing that it was built on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cropline.catalogue import Appended, Catalogue, Memory, entries, removal, table
from cropline.catalogue.entries import Entry
from cropline.catalogue.files import Snapshot
from cropline.core.errors import CatalogueError, StaleLease
from cropline.core.store_spec import StoreSpec
from tests.delta_log import rows_in
from tests.unit.cropline.catalogue.test_catalogue import NOW, append, crops, keys, plain_read

A = ("cameras", "a", "default")


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    catalogue = Catalogue(StoreSpec(tmp_path.as_uri()))
    append(catalogue, crops(["a", "b"]), "old")
    return catalogue


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], object]], list[str]]:
    """Let something come between each look at the table and its commit. Return the operations that were tried."""

    def come_first(does: Callable[[int], object]) -> list[str]:
        put, tried, own = entries.put, [], [True]

        def put_later(snapshot: Snapshot, entry: Entry) -> int:
            if not own[0]:
                return put(snapshot, entry)
            own[0] = False
            does(len(tried))
            own[0] = True
            tried.append(entry.operation)
            return put(snapshot, entry)

        monkeypatch.setattr(entries, "put", put_later)
        return tried

    return come_first


@pytest.fixture(autouse=True)
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_TRIES", 3)


def fresh(catalogue: Catalogue) -> Callable[[int], Appended]:
    return lambda number: append(catalogue, crops([f"new-{number}"]), f"new-{number}")


SLOW: dict[str, tuple[Callable[[Catalogue], Any], Counter[str]]] = {
    "supersede": (
        lambda c: append(c, crops(["a"], version="v2"), "slow", superseding=[A]),
        keys(crops(["a"], version="v2")) + keys(crops(["b"])),
    ),
    "append": (lambda c: append(c, crops(["c"]), "slow"), keys(crops(["a", "b", "c"]))),
    "erase": (lambda c: c.forget_images("cameras", ["a"]), keys(crops(["b"]))),
    "expire": (lambda c: list(c.expire("default", NOW + timedelta(hours=1))), Counter()),
    "fence": (lambda c: c.fence("slow", 2), keys(crops(["a", "b"]))),
}


@pytest.mark.parametrize("what", SLOW)
def test_a_slow_commit_succeeds_though_a_faster_one_always_comes_first(
    catalogue: Catalogue, tmp_path: Path, first: Callable[..., list[str]], what: str
) -> None:
    does, left = SLOW[what]
    if what == "expire":
        append(catalogue, crops(["kept"], profile="thumb"), "other")
        left = keys(crops(["kept"], profile="thumb"))
        tried = first(lambda n: append(catalogue, crops([f"new-{n}"], profile="thumb"), f"new-{n}"))
    else:
        tried = first(fresh(catalogue))
    does(catalogue)
    assert len(tried) == 1, "it did not have to look again"
    assert plain_read(tmp_path) == left + Counter(
        key
        for n in range(len(tried))
        for key in keys(crops([f"new-{n}"], profile="thumb" if what == "expire" else "default"))
    )


def test_a_commit_that_came_after_others_is_found_again(catalogue: Catalogue, first: Callable[..., list[str]]) -> None:
    first(lambda _: [fresh(catalogue)(number) for number in range(5)])
    done = append(catalogue, crops(["a"], version="v2"), "slow", superseding=[A])
    assert catalogue.version() == done.version
    again = append(catalogue, crops(["a"], version="v2"), "slow", attempt=2, superseding=[A])
    assert (again.appended, again.version) == (False, done.version)
    assert keys(catalogue.batch_rows("slow")) == keys(crops(["a"], version="v2"))


def once(does: Callable[[], object]) -> Callable[[int], object]:
    return lambda number: does() if number == 0 else None


FASTER: dict[str, Callable[[Catalogue], object]] = {
    "rows of the same photo": lambda c: append(c, crops(["a"], version="theirs"), "theirs"),
    "rows of the same photo beside a hundred others": lambda c: append(
        c, crops(["a", *(f"z{n}" for n in range(100))], version="theirs"), "theirs"
    ),
    "a change of the same file": lambda c: append(
        c, crops(["b"], version="v2"), "theirs", superseding=[("cameras", "b", "default")]
    ),
    "an erasure of the same file": lambda c: c.forget_images("cameras", ["b"]),
    "a new column": lambda c: append(c, with_column(crops(["c"])), "theirs"),
}


def with_column(rows: pa.Table) -> pa.Table:
    return rows.append_column("shelf", pa.array(["left"] * len(rows)))


@pytest.mark.parametrize("what", FASTER)
def test_a_commit_looks_again_after(
    catalogue: Catalogue, tmp_path: Path, first: Callable[..., list[str]], what: str
) -> None:
    tried = first(once(lambda: FASTER[what](catalogue)))
    append(catalogue, crops(["a"], version="v2"), "slow", superseding=[A])
    assert len(tried) == 2
    read = plain_read(tmp_path)
    assert Counter(key for key in read.elements() if "/a/" in key) == keys(crops(["a"], version="v2"))


def test_an_erasure_keeps_what_it_has_rewritten_when_another_file_changes(
    catalogue: Catalogue, tmp_path: Path, first: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_FILES_A_COMMIT", 1)
    for day in (23, 24, 25):
        names = ["a", *(f"{day}-{number}" for number in range(4))]
        append(catalogue, crops(names, boxes=1, day=f"2026-11-{day}", profile=f"{day}"), f"{day}")

    def change_the_last_file(number: int) -> None:
        if number < 4:
            rows = crops([f"25-{number}"], boxes=1, version="v2", profile="25")
            append(catalogue, rows, f"x{number}", superseding=[("cameras", f"25-{number}", "25")])

    tried = first(change_the_last_file)
    catalogue.forget_images("cameras", ["a"])
    assert len(tried) == 5, "one for each of four files, and the last one once more"
    left = Counter(row["image_id"] for row in rows_in(tmp_path / "catalogue"))
    assert left == Counter(["b", "b", *(f"{day}-{number}" for day in (23, 24, 25) for number in range(4))])


def test_an_erasure_looks_again_when_rows_of_the_photo_came(
    catalogue: Catalogue, tmp_path: Path, first: Callable[..., list[str]]
) -> None:
    first(once(lambda: append(catalogue, crops(["a"], version="v2"), "theirs")))
    catalogue.forget_images("cameras", ["a"])
    assert plain_read(tmp_path) == keys(crops(["b"]))


@pytest.mark.parametrize(
    ("theirs", "times"),
    [({"shard": None}, 1), ({"shard": "shards/other.tar"}, 1), ({"shard": "shards/old.tar"}, 2)],
    ids=["no pack", "another pack", "the same pack"],
)
def test_a_pack_is_written_again_only_when_another_commit_names_it(
    catalogue: Catalogue, tmp_path: Path, first: Callable[..., list[str]], theirs: dict[str, Any], times: int
) -> None:
    append(catalogue, crops(["p", "q"], shard="shards/old.tar"), "packed")
    written: list[int] = []

    def move(rows: pa.Table) -> pa.Table:
        written.append(len(rows))
        return rows.set_column(rows.schema.get_field_index("shard"), "shard", pa.array(["shards/new.tar"] * len(rows)))

    first(once(lambda: append(catalogue, crops(["r"], **theirs), "theirs")))
    catalogue.rewrite_shard("shards/old.tar", move)
    assert written == [4, 6][:times]
    packs = {row["image_id"]: row["shard"] for row in rows_in(tmp_path / "catalogue")}
    moved = "shards/new.tar"
    assert packs == {"a": None, "b": None, "p": moved, "q": moved, "r": moved if times == 2 else theirs["shard"]}


def test_an_attempt_that_is_fenced_between_its_look_and_its_commit_writes_nothing(
    catalogue: Catalogue, tmp_path: Path, first: Callable[..., list[str]]
) -> None:
    first(once(lambda: catalogue.fence("slow", 2)))
    with pytest.raises(StaleLease):
        append(catalogue, crops(["a"], version="v2"), "slow", superseding=[A])
    assert plain_read(tmp_path) == keys(crops(["a", "b"]))


def test_a_batch_that_another_installation_committed_in_between_is_told(
    catalogue: Catalogue, first: Callable[..., list[str]]
) -> None:
    first(once(lambda: append(catalogue, crops(["c"]), "theirs")))
    done = catalogue.append(
        crops(["a"], version="v2"),
        batch_id="slow",
        attempt=1,
        flow_run="run-1",
        committed_at=NOW + timedelta(hours=1),
        superseding=[A],
        memory=Memory(catalogue.version(), False, lambda asked: set(asked) & {"old", "slow"}),
    )
    assert done.appended
    assert done.unknown_batches


def test_a_commit_gives_up_when_more_come_first_than_are_searched_for_it(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, first: Callable[..., list[str]]
) -> None:
    monkeypatch.setattr(entries, "_PASSED_AT_MOST", 2)
    first(lambda tried: [append(catalogue, crops([f"{tried}-{n}"]), f"{tried}-{n}") for n in range(3)])
    with pytest.raises(CatalogueError, match="another writer committed"):
        append(catalogue, crops(["a"], version="v2"), "slow", superseding=[A])

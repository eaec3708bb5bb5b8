"""The catalogue on local files: each batch once, superseding in the same commit, races, hostile ids."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from cropline.catalogue import CATALOGUE, Appended, Catalogue, MaintenanceResult
from cropline.catalogue.maintenance import maintain
from cropline.core.errors import CatalogueError, StaleLease
from cropline.core.keys import image_key
from cropline.core.schemas import CROPS
from cropline.core.store_spec import StoreSpec
from tests.delta_log import rows_in

NOW = datetime(2026, 11, 22, 8, 40, tzinfo=UTC)

HOSTILE = [
    "o'b", "\\", "\\'", "'; DROP TABLE", "' OR '1'='1", "--x", "/*", "\x00", "\u00e9", "e\u0301", "\u2028", "\n", "\r\n", "\t",
    "%", "_", "''", "'", "", "{}", "$1", ":x", "?", '"', "`", "\U0001f600", "E'\\n'", "\x1b", "a" * 3000, "NULL", "\ufffd",
]  # fmt: skip


def crops(
    images: list[str],
    *,
    boxes: int = 2,
    version: str = "v1",
    profile: str = "default",
    day: str = "2026-11-22",
    **more: Any,
) -> pa.Table:
    """Return CROPS rows of the images as the crop job returns them; ``version`` tells them apart."""
    rows = [
        {
            "source": "cameras",
            "image_id": image,
            "version": version,
            "profile": profile,
            "fingerprint": f"{version}-{image}",
            "box_id": f"b{box}",
            "box_index": box,
            "status": "written",
            "key": f"crops/{profile}/cameras/{image}/{version}/{box:04d}.jpg",
            "captured_at": f"{day}T08:39:00+00:00",
            "bytes": 10 + box,
            **more,
        }
        for image in images
        for box in range(boxes)
    ]
    return pa.Table.from_pylist(rows, schema=CROPS)


def append(catalogue: Catalogue, table: pa.Table, batch: str, attempt: int = 1, **more: Any) -> Appended:
    return catalogue.append(
        table,
        batch_id=batch,
        attempt=attempt,
        flow_run="run-1",
        committed_at=NOW,
        superseding=more.get("superseding", ()),
    )


def keys(rows: pa.Table | None) -> Counter[str]:
    assert rows is not None
    return Counter(rows["key"].to_pylist())


def plain_read(folder: Path) -> Counter[str]:
    """Return the table as others read it: the oracle."""
    rows = rows_in(folder / "catalogue")
    assert sorted(row["key"] or "" for row in rows) == sorted(
        key or "" for key in pa.table(DeltaTable(str(folder / "catalogue")).scan())["key"].to_pylist()
    ), "delta-rs reads the same"
    return Counter(row["key"] for row in rows)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(StoreSpec(tmp_path.as_uri()))


def test_a_row_keeps_every_column_of_the_crop_and_gains_who_committed_it(catalogue: Catalogue, tmp_path: Path) -> None:
    given = crops(["a"], boxes=1, label="sku", score=0.5, luminance=1.5)
    append(catalogue, given, "batch-1", attempt=3)
    row = pa.table(DeltaTable(str(tmp_path / "catalogue")).scan()).select(CATALOGUE.names).to_pylist()[0]
    expected = given.to_pylist()[0] | {
        "captured_at": datetime(2026, 11, 22, 8, 39, tzinfo=UTC),
        "batch_id": "batch-1",
        "attempt": 3,
        "flow_run": "run-1",
        "committed_at": NOW,
        "captured_date": date(2026, 11, 22),
        **dict.fromkeys(("recrop_reason", "recrop_detail", "recrop_failed_at")),
    }
    assert row == expected
    assert list(CATALOGUE.names) == list(expected)


def test_the_day_of_capture_is_the_utc_day_and_null_when_unknown(catalogue: Catalogue) -> None:
    table = pa.concat_tables(
        [crops(["a"], boxes=1, captured_at="2026-11-22T01:00:00.5+02:00"), crops(["b"], boxes=1, captured_at=None)]
    )
    append(catalogue, table, "batch-1")
    assert sorted(catalogue.rows()["captured_date"].to_pylist(), key=str) == [date(2026, 11, 21), None]


def test_a_batch_is_appended_once_whatever_the_attempt(catalogue: Catalogue, tmp_path: Path) -> None:
    first = append(catalogue, crops(["a", "b"]), "batch-1")
    again = append(catalogue, crops(["a", "b"]), "batch-1")
    other_attempt = append(catalogue, crops(["a", "c"]), "batch-1", attempt=2)
    assert (first.appended, again, other_attempt) == (
        True,
        Appended(first.version, False),
        Appended(first.version, False),
    )
    assert plain_read(tmp_path) == keys(crops(["a", "b"]))


def test_batch_rows_are_those_that_the_batch_appended(catalogue: Catalogue) -> None:
    assert catalogue.batch_rows("batch-1") is None
    append(catalogue, crops(["a"]), "batch-1")
    append(catalogue, crops(["b"]), "batch-2")
    assert keys(catalogue.batch_rows("batch-1")) == keys(crops(["a"]))
    assert catalogue.batch_rows("batch-3") is None


def test_a_batch_without_a_box_is_held_too(catalogue: Catalogue) -> None:
    assert append(catalogue, crops([]), "batch-1").appended
    assert not append(catalogue, crops(["a"]), "batch-1", attempt=2).appended
    rows = catalogue.batch_rows("batch-1")
    assert rows is not None
    assert len(rows) == 0


def test_superseding_removes_the_old_rows_in_the_same_commit(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a", "b"]), "batch-1")
    append(catalogue, crops(["a"], profile="small"), "batch-2")
    done = append(catalogue, crops(["a", "c"], version="v2"), "batch-3", superseding=[("cameras", "a", "default")])
    now = keys(crops(["a", "c"], version="v2")) + keys(crops(["b"])) + keys(crops(["a"], profile="small"))
    assert plain_read(tmp_path) == now == keys(catalogue.rows())
    assert keys(catalogue.rows(version=done.version - 1)) == keys(crops(["a", "b"])) + keys(
        crops(["a"], profile="small")
    )
    assert keys(catalogue.batch_rows("batch-1")) == keys(crops(["a", "b"])), "history is read when rows were superseded"


def test_an_image_whose_boxes_are_gone_loses_its_rows(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a", "b"]), "batch-1")
    assert append(catalogue, crops([]), "batch-2", superseding=[("cameras", "a", "default")]).appended
    assert plain_read(tmp_path) == keys(crops(["b"]))
    assert not append(catalogue, crops(["x"]), "batch-2", attempt=2).appended


def test_superseding_what_never_was_appends_only(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"]), "batch-1")
    append(catalogue, crops(["b"]), "batch-2", superseding=[("cameras", "b", "default"), ("other", "a", "default")])
    assert plain_read(tmp_path) == keys(crops(["a", "b"]))


def test_rows_with_nulls_survive_a_superseding_commit(catalogue: Catalogue, tmp_path: Path) -> None:
    """In SQL a comparison with null is neither true nor false; no row may vanish between the two."""
    bare = crops(
        ["a"], boxes=1, label=None, store_id=None, captured_at=None, key=None, status="failed", reason="http_404"
    )
    append(catalogue, pa.concat_tables([bare, crops(["b"])]), "batch-1")
    append(catalogue, crops(["b"], version="v2"), "batch-2", superseding=[("cameras", "b", "default")])
    assert Counter(catalogue.rows()["image_id"].to_pylist()) == {"a": 1, "b": 2}


def test_hostile_ids_supersede_themselves_and_nothing_else(catalogue: Catalogue) -> None:
    everything = pa.Table.from_pylist(
        [crops([x], boxes=1).to_pylist()[0] | {"key": None} for x in HOSTILE], schema=CROPS
    )
    append(catalogue, everything, "batch '0'")
    for number, image in enumerate(HOSTILE):
        new = crops([image], boxes=1, version="v2", key=None)
        append(catalogue, new, f"batch '{number}\\", superseding=[("cameras", image, "default")])
        rows = catalogue.rows(columns=["image_id", "version"]).to_pylist()
        assert Counter(row["image_id"] for row in rows) == Counter(HOSTILE)
        assert {row["image_id"] for row in rows if row["version"] == "v2"} == set(HOSTILE[: number + 1])


def test_rows_that_could_never_be_superseded_are_refused(catalogue: Catalogue) -> None:
    for column in ("source", "image_id", "profile", "box_index"):
        with pytest.raises(CatalogueError, match=f"2 rows have no {column}"):
            append(catalogue, crops(["a"], **{column: None}), "batch-1")
    with pytest.raises(CatalogueError, match="do not fit"):
        append(catalogue, crops(["a"]).drop_columns(["sha256"]), "batch-1")
    with pytest.raises(CatalogueError, match="do not fit"):
        append(catalogue, crops(["a"], captured_at="2026-11-22T08:39:00"), "batch-1")
    assert catalogue.version() is None


def test_a_fenced_attempt_cannot_append_and_the_later_one_can(catalogue: Catalogue, tmp_path: Path) -> None:
    assert catalogue.fence("batch-1", 2) is False
    with pytest.raises(StaleLease, match="attempt 1 lost its lease to attempt 2"):
        append(catalogue, crops(["zombie"]), "batch-1", attempt=1)
    assert catalogue.batch_rows("batch-1") is None
    assert catalogue.fence("batch-1", 3) is False
    with pytest.raises(StaleLease):
        catalogue.fence("batch-1", 2)
    assert append(catalogue, crops(["a"]), "batch-1", attempt=3).appended
    assert catalogue.fence("batch-1", 4) is True
    assert plain_read(tmp_path) == keys(crops(["a"]))


@pytest.mark.parametrize("superseding", [(), (("cameras", "old", "default"),)], ids=["append", "replace"])
def test_two_attempts_that_commit_at_once_leave_one_content(tmp_path: Path, superseding: tuple[Any, ...]) -> None:
    """A stale attempt and its successor pass every check, then race: delta-rs accepts only one commit."""
    for round_ in range(10):
        root = tmp_path / str(round_)
        catalogue = Catalogue(StoreSpec(root.as_uri()))
        append(catalogue, crops(["old"]), "batch-0")
        start = Barrier(4)

        def run(attempt: int, catalogue: Catalogue = catalogue, start: Barrier = start) -> Appended:
            start.wait()
            return append(catalogue, crops([f"by-{attempt}"]), "batch-1", attempt=attempt, superseding=superseding)

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(run, [1, 2, 3, 4]))
        winners = [n for n, result in enumerate(results, 1) if result.appended]
        assert len(winners) == 1
        kept = Counter() if superseding else keys(crops(["old"]))
        assert plain_read(root) == keys(crops([f"by-{winners[0]}"])) + kept
        assert keys(catalogue.batch_rows("batch-1")) == keys(crops([f"by-{winners[0]}"]))


def test_a_commit_on_an_older_snapshot_loses_to_the_batch_that_came_first(catalogue: Catalogue, tmp_path: Path) -> None:
    """The same race, made certain: the loser read the table before the winner wrote. delta-rs guarantees the result."""
    from deltalake import CommitProperties, Transaction, write_deltalake
    from deltalake.exceptions import CommitFailedError

    append(catalogue, crops(["a"]), "batch-0")
    stale = DeltaTable(str(tmp_path / "catalogue"))
    append(catalogue, crops(["b"]), "batch-1")
    properties = CommitProperties(app_transactions=[Transaction("batch-1", 0)])
    with pytest.raises(CommitFailedError):
        write_deltalake(stale, catalogue.rows(), mode="append", commit_properties=properties)
    assert plain_read(tmp_path) == keys(crops(["a", "b"]))


def test_three_processes_append_their_batches_and_one_shared_one(tmp_path: Path) -> None:
    """Writers also race to create the table."""
    script = (
        "import sys; from tests.unit.cropline.catalogue.test_catalogue import *\n"
        "c = Catalogue(StoreSpec(sys.argv[1])); me = sys.argv[2]\n"
        "for n in range(5): append(c, crops([f'{me}-{n}'], boxes=1), f'batch-{me}-{n}')\n"
        "print(append(c, crops([f'shared-by-{me}'], boxes=1), 'shared').appended)\n"
    )
    command = [sys.executable, "-c", script, tmp_path.as_uri()]
    running = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(3)]
    said = [process.communicate(timeout=120)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0] * 3
    assert Counter(said) == {"True": 1, "False": 2}
    own = keys(crops([f"{me}-{n}" for me in range(3) for n in range(5)], boxes=1))
    assert plain_read(tmp_path) == own + keys(crops([f"shared-by-{said.index('True')}"], boxes=1))


def test_a_crop_is_found_by_key_and_by_address(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a", "b"]), "batch-1")
    key = "crops/default/cameras/b/v1/0001.jpg"
    by_key, by_address = catalogue.find(key), catalogue.find(f"{tmp_path.as_uri()}/{key}")
    assert by_key is not None
    assert by_key == by_address
    assert (by_key["image_id"], by_key["box_id"], by_key["batch_id"]) == ("b", "b1", "batch-1")
    assert catalogue.find("crops/nothing") is None


def test_photos_of_a_store_or_before_a_time_are_found_by_one_column(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All columns of 666,000 rows took 890 MB."""
    append(catalogue, crops(["a", "b"], store_id="s1"), "batch-1")
    append(catalogue, crops(["c"], store_id="s2", day="2026-11-20"), "batch-2")
    append(catalogue, crops(["d"], store_id=None, captured_at=None), "batch-3")
    append(catalogue, crops(["b"], version="v2", store_id="s3"), "batch-4", superseding=[("cameras", "b", "default")])
    read: list[Any] = []
    scan = DeltaTable.scan

    def noting(table: DeltaTable, columns: Any = None, **options: Any) -> Any:
        read.append(columns)
        return scan(table, columns, **options)

    monkeypatch.setattr(DeltaTable, "scan", noting)
    assert catalogue.images_of("cameras", ("s1", "s2"), None) == {"a", "c"}
    assert catalogue.images_of("cameras", (), datetime(2026, 11, 21, tzinfo=UTC)) == {"c"}
    assert catalogue.images_of("others", ("s1",), None) == set()
    assert read == [["image_id"]] * 3


def test_what_is_no_key_of_a_crop_is_not_looked_for_in_the_whole_log(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``trace`` asks about a photo's id too; a month's log may have 60,000 entries."""
    append(catalogue, crops(["a"]), "batch-1")
    monkeypatch.setattr(DeltaTable, "history", None)
    assert catalogue.find("a") is None


def maintenance(folder: Path, *, dry_run: bool = False) -> MaintenanceResult:
    """Maintenance that vacuums at once, which the catalogue itself refuses."""
    return maintain(StoreSpec((folder / "catalogue").as_uri()), True, timedelta(0), True, dry_run)


def test_batch_rows_after_a_vacuum_are_those_that_are_current(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a", "b"]), "batch-1")
    append(catalogue, crops(["a"], version="v2"), "batch-2", superseding=[("cameras", "a", "default")])
    maintenance(tmp_path)
    assert keys(catalogue.batch_rows("batch-1")) == keys(crops(["b"]))


@pytest.mark.parametrize("after", [timedelta(0), timedelta(minutes=59), timedelta(hours=23)])
def test_vacuum_never_takes_what_a_running_commit_may_need(catalogue: Catalogue, after: timedelta) -> None:
    append(catalogue, crops(["a"]), "batch-1")
    with pytest.raises(CatalogueError, match="at least 1 day"):
        catalogue.maintain(vacuum_after=after)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_vacuum_takes_what_no_commit_ever_named(catalogue: Catalogue, tmp_path: Path, *, checkpoint: bool) -> None:
    """A failed commit leaves its file; the tombstone of a removed file leaves the log before the file may be deleted."""
    append(catalogue, crops(["a"]), "batch-1")
    (named,) = (tmp_path / "catalogue").rglob("*.parquet")
    left = named.with_name("part-left.parquet")
    shutil.copy(named, left)
    young = shutil.copy(named, named.with_name("part-young.parquet"))
    os.utime(left, (0, 0))
    os.utime(named, (0, 0))
    if checkpoint:
        catalogue.maintain(vacuum_after=None)
    assert catalogue.maintain(vacuum_after=timedelta(days=1), compact=False).files_vacuumed == 1
    assert (left.exists(), named.exists(), young.exists()) == (False, True, True)


def test_commits_and_upkeep_at_once_lose_nothing(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops([f"i{n}" for n in range(40)]), "batch-0")

    def recrop(worker: int) -> None:
        for n in range(worker * 10, worker * 10 + 10, 2):
            images = [f"i{n}", f"i{n + 1}"]
            old = [("cameras", image, "default") for image in images]
            assert append(catalogue, crops(images, version="v2"), f"batch-{n + 1}", superseding=old).appended

    def keep_up(_: int) -> None:
        for _round in range(8):
            catalogue.maintain(vacuum_after=timedelta(days=1))

    with ThreadPoolExecutor(5) as pool:
        done = [pool.submit(recrop, worker) for worker in range(4)] + [pool.submit(keep_up, 0)]
        for one in done:
            one.result()
    assert plain_read(tmp_path) == keys(crops([f"i{n}" for n in range(40)], version="v2"))


def test_a_superseded_crop_and_its_image_are_traced_through_the_versions(catalogue: Catalogue, tmp_path: Path) -> None:
    for image in ("a", "o'b\\"):
        key = f"crops/default/{image_key('cameras', image)}/{{}}/0000.jpg"
        first = append(catalogue, crops([image, f"{image}2"], boxes=1, key=key.format("v1")), f"{image}-1")
        second = append(
            catalogue,
            crops([image], boxes=1, version="v2", key=key.format("v2")),
            f"{image}-2",
            superseding=[("cameras", image, "default")],
        )
        third = append(catalogue, crops([]), f"{image}-3", superseding=[("cameras", image, "default")])
        assert first.version < second.version < third.version
        told = [
            (held.superseded_in, held.rows["version"].to_pylist()) for held in catalogue.image_history("cameras", image)
        ]
        assert told == [(third.version, ["v2"]), (second.version, ["v1"])]
        last, old = catalogue.find(key.format("v2")), catalogue.find(key.format("v1"))
        assert last is not None
        assert old is not None
        assert (last["version"], last["superseded_in"]) == ("v2", third.version)
    assert catalogue.find("crops/default/cameras/nobody/v1/0000.jpg") is None
    assert [(h.superseded_in, len(h.rows)) for h in catalogue.image_history("cameras", "a2")] == [(None, 1)]
    maintenance(tmp_path)
    assert catalogue.image_history("cameras", "a") == []


def test_upkeep_changes_no_row_and_keeps_batches_known(catalogue: Catalogue, tmp_path: Path) -> None:
    for number in range(30):
        append(catalogue, crops([f"i{number}"]), f"batch-{number}")
    append(catalogue, crops(["i3"], version="v2"), "batch-again", superseding=[("cameras", "i3", "default")])
    before, version = plain_read(tmp_path), catalogue.version()
    plan = maintenance(tmp_path, dry_run=True)
    assert (plan.files_before, plan.files_after, plan.dry_run) == (30, 30, True)
    assert plan.files_vacuumed > 0
    assert catalogue.version() == version
    done = maintenance(tmp_path)
    assert done.files_after == 1
    assert done.files_vacuumed >= 30
    assert plain_read(tmp_path) == before
    assert (
        len(list((tmp_path / "catalogue").rglob("*.parquet")))
        - len(list((tmp_path / "catalogue/_delta_log").glob("*.parquet")))
        == 1
    )
    assert not append(catalogue, crops(["x"]), "batch-7").appended
    assert keys(catalogue.batch_rows("batch-7")) == keys(crops(["i7"]))
    assert append(catalogue, crops(["new"]), "batch-new").appended


def test_a_batch_whose_transaction_the_log_has_forgotten_is_known_by_its_rows(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    append(catalogue, crops(["a"]), "batch-1")
    table = DeltaTable(str(tmp_path / "catalogue"))
    table.alter.set_table_properties({"delta.setTransactionRetentionDuration": "interval 1 microseconds"})
    assert DeltaTable(str(tmp_path / "catalogue")).transaction_version("batch-1") is None
    assert catalogue.fence("batch-1", 2) is True
    assert not append(catalogue, crops(["x"]), "batch-1", attempt=2).appended
    assert keys(catalogue.batch_rows("batch-1")) == keys(crops(["a"]))
    assert plain_read(tmp_path) == keys(crops(["a"]))


def test_hostile_ids_are_found_by_what_they_are(catalogue: Catalogue) -> None:
    for image in HOSTILE:
        append(catalogue, crops([image], boxes=1, key=f"crops/{image}"), f"batch {image}")
    for image in HOSTILE:
        assert [row["image_id"] for row in catalogue.image_rows("cameras", image).to_pylist()] == [image]
        found, rows = catalogue.find(f"crops/{image}"), catalogue.batch_rows(f"batch {image}")
        assert found is not None
        assert rows is not None
        assert (found["image_id"], rows["image_id"].to_pylist()) == (image, [image])


def test_a_broken_table_is_one_clear_error(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"]), "batch-1")
    for file in (tmp_path / "catalogue").rglob("*.parquet"):
        file.write_bytes(b"not parquet")
    with pytest.raises(CatalogueError, match="cannot read the catalogue at file:///") as caught:
        catalogue.rows()
    assert "\n" not in str(caught.value)


def test_memory_storage_has_a_catalogue_of_its_own_while_the_process_lives() -> None:
    spec = StoreSpec("memory:///")
    append(Catalogue(spec), crops(["a"]), "batch-1")
    assert keys(Catalogue(spec).batch_rows("batch-1")) == keys(crops(["a"]))


def test_importing_the_catalogue_does_not_import_delta() -> None:
    code = "import sys, cropline.catalogue; print([m for m in ('deltalake', 'obstore', 'boto3', 'pyarrow.dataset') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_a_table_of_before_a_column_is_read_and_gets_it_with_the_next_commit(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    """A catalogue as an earlier version of cropline made it."""
    append(catalogue, crops(["a"]), "batch-1")
    older = pa.table(DeltaTable(str(tmp_path / "catalogue")).scan()).drop_columns(["image_phash"])
    shutil.rmtree(tmp_path / "catalogue")
    write_deltalake(str(tmp_path / "catalogue"), older, partition_by=["captured_date"])
    assert catalogue.image_rows("cameras", "a")["image_phash"].to_pylist() == [None, None]
    assert catalogue.rows()["image_phash"].to_pylist() == [None, None]
    assert catalogue.rows(columns=["key", "image_phash"])["image_phash"].to_pylist() == [None, None]

    append(catalogue, crops(["b"], image_phash="0" * 256), "batch-2", superseding=[("cameras", "none", "default")])
    found = catalogue.rows().to_pylist()
    assert sorted((row["image_id"], row["image_phash"]) for row in found) == [("a", None)] * 2 + [("b", "0" * 256)] * 2
    assert DeltaTable(str(tmp_path / "catalogue")).schema().to_arrow().names[-1] == "image_phash"


def test_tens_of_thousands_of_crops_in_packs_are_taken_over(catalogue: Catalogue) -> None:
    count = 37_000
    columns = {"source": ["cameras"] * count, "profile": ["default"] * count, "status": ["written"] * count}
    columns |= {
        "image_id": [f"photo-{n // 37}" for n in range(count)],
        "box_index": [n % 37 for n in range(count)],
        "key": [f"crops/default-1/cameras-1/photo-{n // 37}/ffff/{n % 37}.jpg" for n in range(count)],
        "shard": [f"shards/default/batch-1/{n // 5_000}.tar" for n in range(count)],
        "offset": list(range(count)),
    }
    rows = pa.table([pa.array(columns.get(field.name, [None] * count), field.type) for field in CROPS], schema=CROPS)
    photos = sorted(set(columns["image_id"]))
    append(catalogue, rows, "batch-1")
    taken = append(catalogue, rows, "batch-2", superseding=[("cameras", photo, "default") for photo in photos])
    assert taken.appended
    found = catalogue.images_rows("cameras", [*photos, *(f"other-{n}" for n in range(40_000))])
    assert (set(found["batch_id"].to_pylist()), len(found)) == ({"batch-2"}, count)


def test_tens_of_thousands_of_photos_are_superseded_in_one_commit(catalogue: Catalogue) -> None:
    append(catalogue, crops(["a", "b"]), "batch-1")
    photos = [("cameras", image_id, "default") for image_id in ("a", *(f"none-{n}" for n in range(20_000)))]
    assert append(catalogue, crops(["a"], version="v2"), "batch-2", superseding=photos).appended
    found = {(row["image_id"], row["batch_id"]) for row in catalogue.rows().to_pylist()}
    assert found == {("a", "batch-2"), ("b", "batch-1")}

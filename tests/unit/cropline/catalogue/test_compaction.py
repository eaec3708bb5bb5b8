"""Dead rows in files: maintenance beside commits, tables of earlier versions, other writers' vectors, erased bytes."""

from __future__ import annotations

import json
import struct
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from cropline.catalogue import CATALOGUE, Catalogue, compaction, data_files, delta, entries, removal, vectors
from cropline.catalogue.changes import changes_in
from cropline.catalogue.files import DataFile, Snapshot, actions_of, vector_id
from cropline.core.errors import CatalogueError
from cropline.core.store_spec import StoreSpec
from tests.delta_log import live_files, objects_in
from tests.unit.cropline.catalogue.test_catalogue import NOW, append, crops, keys, maintenance, plain_read

A, B = ("cameras", "a", "default"), ("cameras", "b", "default")


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(StoreSpec(tmp_path.as_uri()))


def snapshot(folder: Path) -> Snapshot:
    spec = delta.table_spec(StoreSpec(folder.as_uri()))
    table = delta.open_table(spec)
    assert table is not None
    return Snapshot(spec, table)


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "catalogue").rglob("*.parquet") if "_delta_log" not in path.parts]


def test_a_superseding_commit_writes_its_own_rows_and_rewrites_no_file(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a", "b", "c"]), "batch-1")
    (before,) = files(tmp_path)
    data = before.read_bytes()
    append(catalogue, crops(["a"], version="v2"), "batch-2", superseding=[A])
    (new,) = set(files(tmp_path)) - {before}
    assert before.read_bytes() == data
    assert pq.read_table(new)["version"].to_pylist() == ["v2", "v2"]
    (old,) = (add for add in live_files(objects_in(tmp_path / "catalogue")) if add.get("deletionVector"))
    told = json.loads(old["stats"])
    assert (told["numRecords"], told["tightBounds"], old["deletionVector"]["cardinality"]) == (6, False, 2)
    assert (told["minValues"]["image_id"], told["maxValues"]["image_id"]) == ("a", "c"), "readers still skip by them"


def test_a_file_without_a_current_row_leaves_the_table(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"]), "batch-1")
    append(catalogue, crops(["b"]), "batch-2")
    append(catalogue, crops([]), "batch-3", superseding=[A])
    assert len(live_files(objects_in(tmp_path / "catalogue"))) == 1
    assert plain_read(tmp_path) == keys(crops(["b"]))


def test_a_row_dies_once_however_often_its_file_is_touched(catalogue: Catalogue, tmp_path: Path) -> None:
    images = [f"i{number}" for number in range(8)]
    append(catalogue, crops(images), "batch-0")
    for number, image in enumerate(images[:-1]):
        append(
            catalogue,
            crops([]),
            f"batch {number}",
            superseding=[("cameras", name, "default") for name in (image, "i0")],
        )
    assert plain_read(tmp_path) == keys(crops(["i7"]))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_compaction_folds_dead_rows_and_changes_no_current_one(
    catalogue: Catalogue, tmp_path: Path, *, checkpoint: bool
) -> None:
    for number in range(4):
        append(catalogue, crops([f"i{number}", f"j{number}"], day=f"2026-11-2{number % 2}"), f"batch-{number}")
    append(catalogue, crops(["i1"], version="v2"), "batch-9", superseding=[("cameras", "i1", "default")])
    if checkpoint:
        DeltaTable(str(tmp_path / "catalogue")).create_checkpoint()
    before = plain_read(tmp_path)
    assert catalogue.maintain(vacuum_after=None).files_after == 3
    assert plain_read(tmp_path) == before
    assert not any(add.get("deletionVector") for add in live_files(objects_in(tmp_path / "catalogue")))
    assert sum(json.loads(add["stats"])["numRecords"] for add in live_files(objects_in(tmp_path / "catalogue"))) == 16
    version = catalogue.version()
    assert catalogue.maintain(vacuum_after=None, checkpoint=False).version == version, "nothing is left to do"


def test_few_dead_rows_are_folded_after_a_week(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops([f"i{number:02d}" for number in range(50)]), "batch-1")
    append(catalogue, crops([]), "batch-2", superseding=[("cameras", "i07", "default")])
    held, now = snapshot(tmp_path).all(), 1e10
    since = int(held[0].action["tags"][entries.DEAD_SINCE]) / 1000
    assert list(compaction.bins(held, since + 6 * 86_400)) == []
    assert list(compaction.bins(held, since + 8 * 86_400)) == [held]
    compaction.compact(lambda: snapshot(tmp_path), now)
    assert [file.dead.tolist() for file in snapshot(tmp_path).all()] == [[]]


def test_rows_of_one_batch_stay_together(catalogue: Catalogue, tmp_path: Path) -> None:
    for batch in ("20261122-3", "20261122-1", "20261122-2"):
        append(catalogue, crops([f"{batch}-{n}" for n in "ab"]), batch)
    catalogue.maintain(vacuum_after=None)
    (file,) = live_files(objects_in(tmp_path / "catalogue"))
    rows = pq.read_table(tmp_path / "catalogue" / file["path"])
    assert rows["batch_id"].to_pylist() == [f"20261122-{n}" for n in "123" for _ in range(4)]


def between(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen once, after the files were rewritten and before the commit that names them."""
    rewrite = compaction.rewrite

    def then(*args: Any, **more: Any) -> Any:
        done = rewrite(*args, **more)
        monkeypatch.setattr(compaction, "rewrite", rewrite)
        happens()
        return done

    monkeypatch.setattr(compaction, "rewrite", then)


def test_a_commit_beside_compaction_takes_precedence_for_its_files(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for image in "ab":
        append(catalogue, crops([image]), f"batch-{image}")
        append(catalogue, crops([f"{image}2"], day="2026-11-20"), f"batch-{image}2")
    between(monkeypatch, lambda: append(catalogue, crops(["a"], version="v2"), "batch-3", superseding=[A]))
    catalogue.maintain(vacuum_after=None)
    assert plain_read(tmp_path) == keys(crops(["a"], version="v2")) + keys(crops(["b", "a2", "b2"]))
    days = Counter(add["partitionValues"]["captured_date"] for add in live_files(objects_in(tmp_path / "catalogue")))
    assert days == {"2026-11-20": 1, "2026-11-22": 2}, "the other day's files were merged"


def test_a_commit_of_other_files_passes_compaction_without_a_second_look(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(catalogue, crops(["a"]), "batch-a")
    for image in "bc":
        append(catalogue, crops([image], day="2026-11-20"), f"batch-{image}")
    looks = []
    put = entries.put

    def put_after_compaction(*args: Any) -> int:
        looks.append(args)
        if len(looks) == 1:
            catalogue.maintain(vacuum_after=None)
        return put(*args)

    monkeypatch.setattr(entries, "put", put_after_compaction)
    append(catalogue, crops(["a"], version="v2"), "batch-3", superseding=[A])
    assert len(looks) == 2, "the commit and the compaction"
    assert plain_read(tmp_path) == keys(crops(["a"], version="v2")) + keys(crops(["b", "c"]))


def test_a_commit_whose_files_were_compacted_looks_again(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(catalogue, crops(["a"]), "batch-a")
    append(catalogue, crops(["b"]), "batch-b")
    put, done = entries.put, []

    def put_after_compaction(*args: Any) -> int:
        if not done:
            done.append(1)
            catalogue.maintain(vacuum_after=None)
        return put(*args)

    monkeypatch.setattr(entries, "put", put_after_compaction)
    assert append(catalogue, crops(["a"], version="v2"), "batch-3", superseding=[A]).appended
    assert plain_read(tmp_path) == keys(crops(["a"], version="v2")) + keys(crops(["b"]))


def test_compaction_that_was_killed_goes_on_where_it_was(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (20, 21, 22):
        for image in "ab":
            append(catalogue, crops([f"{image}{day}"], day=f"2026-11-{day}"), f"batch-{image}{day}")
    monkeypatch.setattr(compaction, "_BINS_A_COMMIT", 1)
    before, rewrite, seen = plain_read(tmp_path), compaction.rewrite, []

    def dies(*args: Any) -> Any:
        seen.append(args)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return rewrite(*args)

    monkeypatch.setattr(compaction, "rewrite", dies)
    with pytest.raises(KeyboardInterrupt):
        catalogue.maintain(vacuum_after=None)
    assert plain_read(tmp_path) == before
    assert catalogue.maintain(vacuum_after=None).files_after == 3
    assert len(seen) == 4, "two days were done already"
    assert plain_read(tmp_path) == before


def test_an_erased_photo_is_in_no_file_that_the_table_keeps(catalogue: Catalogue, tmp_path: Path) -> None:
    """Neither its current rows, nor those that died before in other files."""
    append(catalogue, crops(["a", "b"]), "batch-1")
    append(catalogue, crops(["a", "c"], version="v2"), "batch-2", superseding=[A])
    append(catalogue, crops(["a", "d"], version="v3", profile="small"), "batch-3")
    catalogue.forget_images("cameras", ["a"])
    assert plain_read(tmp_path) == keys(crops(["b"])) + keys(crops(["c"], version="v2")) + keys(
        crops(["d"], version="v3", profile="small")
    )
    maintenance(tmp_path)
    left = [row for path in files(tmp_path) for row in pq.read_table(path)["image_id"].to_pylist()]
    assert sorted(left) == ["b", "b", "c", "c", "d", "d"]
    assert catalogue.image_history("cameras", "a") == []


def test_a_photo_of_which_only_dead_rows_are_left_is_erased_too(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a", "b"]), "batch-1")
    append(catalogue, crops([]), "batch-2", superseding=[A])
    version = catalogue.version()
    assert version is not None
    assert catalogue.forget_images("cameras", ["a"]) == version + 1
    assert catalogue.forget_images("cameras", ["a"]) == version + 1
    held = {row for add in live_files(objects_in(tmp_path / "catalogue")) for row in _ids(tmp_path, add)}
    assert held == {"b"}


def _ids(folder: Path, add: dict[str, Any]) -> list[str]:
    found: list[str] = pq.read_table(folder / "catalogue" / add["path"])["image_id"].to_pylist()
    return found


def _earlier(catalogue: Catalogue, folder: Path) -> Path:
    """Make the table one of an earlier version: delta-rs wrote it, and it may not have vectors."""
    append(catalogue, crops(["a", "b"]), "batch-1")
    rows, path = (
        pa.table(DeltaTable(str(folder / "catalogue")).scan()).select(CATALOGUE.names).cast(CATALOGUE),
        folder / "catalogue",
    )
    for file in sorted(path.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    write_deltalake(str(path), rows, partition_by=["captured_date"])
    assert DeltaTable(str(path)).protocol().min_reader_version == 1
    return path


def test_a_table_of_an_earlier_version_takes_commits(catalogue: Catalogue, tmp_path: Path) -> None:
    path = _earlier(catalogue, tmp_path)
    assert append(catalogue, crops(["a"], version="v2"), "batch-2", superseding=[A]).appended
    assert plain_read(tmp_path) == keys(crops(["a"], version="v2")) + keys(crops(["b"]))
    protocol = DeltaTable(str(path)).protocol()
    assert (protocol.reader_features, protocol.min_writer_version) == (["deletionVectors"], 7)
    assert set(protocol.writer_features or ()) == {"appendOnly", "deletionVectors", "invariants"}


def test_maintenance_migrates_a_table_of_an_earlier_version(catalogue: Catalogue, tmp_path: Path) -> None:
    path = _earlier(catalogue, tmp_path)
    before = plain_read(tmp_path)
    catalogue.maintain(vacuum_after=None)
    assert plain_read(tmp_path) == before
    assert DeltaTable(str(path)).protocol().reader_features == ["deletionVectors"]
    (add,) = live_files(objects_in(path))
    group = pq.ParquetFile(path / add["path"]).metadata.row_group(0)
    named = {group.column(n).path_in_schema for n in range(group.num_columns) if group.column(n).bloom_filter_offset}
    assert named == {"image_id", "key"}


def test_a_table_that_others_upgraded_too_far_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["a"]), "batch-1")
    log = tmp_path / "catalogue" / "_delta_log"
    version = catalogue.version()
    assert version is not None
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors", "rowTracking"]}
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}
    (log / f"{version + 1:020d}.json").write_text(json.dumps(protocol))
    with pytest.raises(CatalogueError, match="table feature rowTracking, which cropline cannot write"):
        append(catalogue, crops(["b"]), "batch-2")


def test_the_vector_that_another_writer_keeps_in_a_file_is_respected(catalogue: Catalogue, tmp_path: Path) -> None:
    """Spark's DELETE writes such a file. The next commit must name it exactly, or the rows come back."""
    append(catalogue, crops(["a", "b", "c"]), "batch-1")
    path = tmp_path / "catalogue"
    (add,) = live_files(objects_in(path))
    name, data = uuid.UUID(int=18), vectors._roaring_array(np.array([4, 5], np.uint32))
    (path / f"deletion_vector_{name}.bin").write_bytes(
        b"\1" + struct.pack(">I", len(data)) + data + struct.pack(">I", _crc(data))
    )
    vector = {"storageType": "u", "pathOrInlineDv": vectors._z85(name.bytes), "offset": 1, "sizeInBytes": len(data), "cardinality": 2}  # fmt: skip
    gone = {k: add[k] for k in ("path", "size", "partitionValues")} | {"dataChange": True, "deletionTimestamp": 1}
    version = catalogue.version()
    assert version is not None
    (path / "_delta_log" / f"{version + 1:020d}.json").write_text(
        "\n".join(map(json.dumps, [{"remove": gone}, {"add": {**add, "deletionVector": vector}}]))
    )
    append(catalogue, crops(["a"], version="v2"), "batch-2", superseding=[A])
    assert plain_read(tmp_path) == keys(crops(["a"], version="v2")) + keys(crops(["b"]))
    catalogue.maintain(vacuum_after=timedelta(days=30))
    assert plain_read(tmp_path) == keys(crops(["a"], version="v2")) + keys(crops(["b"]))


def _crc(data: bytes) -> int:
    import zlib

    return zlib.crc32(data)


def test_files_of_few_rows_become_one_row_group(catalogue: Catalogue, tmp_path: Path) -> None:
    """A row group for each of them would make the file's footer, which every look-up reads, grow with the commits."""
    for number in range(3):
        append(catalogue, crops([f"i{number}"]), f"batch-{number}")
    maintenance(tmp_path)
    (merged,) = files(tmp_path)
    assert pq.ParquetFile(merged).metadata.num_row_groups == 1
    assert plain_read(tmp_path) == keys(crops(["i0", "i1", "i2"]))


def test_a_row_group_has_as_many_rows_as_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "GROUP_ROWS", 10)
    rows = pa.Table.from_pylist(
        [{"key": f"k{number}", "image_id": "a", "source": "s"} for number in range(33)], CATALOGUE
    )
    target = tmp_path / "part.parquet"
    writer = data_files.DataFileWriter(target, CATALOGUE, None, rows=33)
    for start, stop in [(0, 4), (4, 25), (25, 25), (25, 33)]:
        writer.write(rows.slice(start, stop - start))
    writer.close()
    written = pq.ParquetFile(target)
    assert [written.metadata.row_group(n).num_rows for n in range(written.num_row_groups)] == [10, 10, 10, 3]
    assert written.read()["key"].to_pylist() == rows["key"].to_pylist()


def test_rows_expire_in_many_commits_and_each_file_is_looked_into_once(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of another profile's rows too stay in the table: a month of commits must not read all of them each."""
    for day in range(1, 7):
        rows = [crops(["a"], profile=profile, day=f"2026-11-{day:02}") for profile in ("kept", "old")]
        append(catalogue, pa.concat_tables(rows), f"batch-{day}")
    looked: list[str] = []
    look = removal._expired_in

    def count(snapshot: Snapshot, file: DataFile, *args: Any) -> Any:
        looked.append(file.path)
        return look(snapshot, file, *args)

    monkeypatch.setattr(removal, "_expired_in", count)
    monkeypatch.setattr(removal, "_ROWS_A_COMMIT", 2)
    assert [len(part) for part in catalogue.expire("old", NOW + timedelta(hours=1))] == [2] * 6
    assert len(looked) == len(set(looked)) == 6
    assert plain_read(tmp_path) == Counter(dict.fromkeys(keys(crops(["a"], profile="kept")), 6))


def test_few_commits_wait_for_a_clean_log(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[int] = []
    monkeypatch.setattr(DeltaTable, "cleanup_metadata", lambda table: cleaned.append(table.version()))
    monkeypatch.setattr(entries, "_CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(entries, "_CLEAN_EVERY", 4)
    for number in range(9):
        append(catalogue, crops([f"{number}"], boxes=1), f"batch-{number}")
    assert len(list((tmp_path / "catalogue" / "_delta_log").glob("*.checkpoint.parquet"))) == 9
    assert cleaned == [4, 8]


@pytest.mark.parametrize("does", ["erase", "supersede", "expire", "maintain", "changes"])
def test_files_that_earlier_versions_rewrote_are_changed_like_others(
    catalogue: Catalogue, tmp_path: Path, does: str
) -> None:
    """delta-rs writes texts as views when it rewrites a file, also those in lists."""
    rows = crops(["a", "b", "c"])
    rows = rows.append_column("tags", pa.array([["x"], ["y"]] * 3)).append_column("raw", pa.array([b"\0"] * 6))
    append(catalogue, rows, "batch-1")
    table = DeltaTable(str(tmp_path / "catalogue"))
    table.delete("image_id = 'c'")
    assert "string_view" in {str(field.type) for path in table.file_uris() for field in pq.read_schema(path)}
    since, left = catalogue.version(), keys(crops(["b"]))
    if does in ("erase", "changes"):
        catalogue.forget_images("cameras", ["a"])
    elif does == "expire":
        list(catalogue.expire("default", NOW + timedelta(hours=1)))
        left = Counter()
    else:
        append(catalogue, crops(["a"], version="v2"), "batch-2", superseding=[A])
        left += keys(crops(["a"], version="v2"))
    if does == "maintain":
        catalogue.maintain(vacuum_after=None)
    assert plain_read(tmp_path) == left
    assert keys(catalogue.image_rows("cameras", "b")) == (keys(crops(["b"])) if left else Counter())
    if does == "changes":
        told = changes_in(StoreSpec((tmp_path / "catalogue").as_uri()), since).to_arrow()
        assert list(zip(told["change"].to_pylist(), told["image_id"].to_pylist(), strict=True)) == [("erased", "a")] * 2


def test_writers_that_add_columns_to_an_earlier_table_at_once_all_commit(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade, several workers find a table without the new columns. Another one is faster with each look."""
    path = _earlier(catalogue, tmp_path)
    rows = pa.table(DeltaTable(str(path)).scan()).drop_columns(["recrop_reason", "recrop_detail"])
    for file in sorted(path.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    write_deltalake(str(path), rows, partition_by=["captured_date"])
    add_columns, others = delta.add_columns, [crops(["c"]), crops(["d"]).append_column("own", pa.array([1, 2]))]

    def add_after_others(table: DeltaTable, schema: pa.Schema) -> DeltaTable:
        if others:
            append(catalogue, others.pop(), f"batch-{len(others)}")
        return add_columns(table, schema)

    monkeypatch.setattr(delta, "add_columns", add_after_others)
    assert append(catalogue, crops(["e"]), "batch-e").appended
    assert plain_read(tmp_path) == keys(crops(list("abcde")))


@pytest.mark.parametrize("hint", [None, '{"version":', "[]", '{"version": 3, "parts": 2}'])
def test_a_log_is_read_without_the_hint_and_without_half_a_checkpoint(
    catalogue: Catalogue, tmp_path: Path, hint: str | None
) -> None:
    """The hint may be missing or damaged, and a killed writer of another tool leaves some parts of a checkpoint."""
    append(catalogue, crops(["a", "b"]), "batch-1")
    append(catalogue, crops(["a"], version="v2"), "batch-2", superseding=[A])
    catalogue.maintain(compact=False, vacuum_after=None)
    append(catalogue, crops(["c"]), "batch-3")
    before, log = objects_in(tmp_path / "catalogue"), tmp_path / "catalogue" / "_delta_log"
    version = max(int(path.stem) for path in log.glob("*.json"))
    (log / f"{version:020d}.checkpoint.{1:010d}.{2:010d}.parquet").write_bytes(b"PAR1")
    (log / "_last_checkpoint").unlink()
    if hint is not None:
        (log / "_last_checkpoint").write_text(hint)
    read = actions_of(StoreSpec((tmp_path / "catalogue").as_uri()), version, None)
    live = live_files(before)
    assert len(live) == 3
    assert {path: vector_id(action) for path, action in read.items()} == {add["path"]: vector_id(add) for add in live}

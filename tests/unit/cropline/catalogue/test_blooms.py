"""Bloom filters of data files: a look-up leaves out what cannot hold its rows, and never what does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cropline.catalogue import CATALOGUE, Catalogue, blooms, data_files, positions
from cropline.core.errors import StorageError
from cropline.core.store_spec import StoreSpec
from tests.delta_log import live_files, objects_in
from tests.unit.cropline.catalogue.test_catalogue import append, crops, maintenance

IDS = ["a", "A", "ä", "\U0001f4f7", "x" * 300, "a b", "'", "0", *(f"photo-{number}" for number in range(60))]


@pytest.fixture
def spec(tmp_path: Path) -> StoreSpec:
    return StoreSpec(tmp_path.as_uri())


@pytest.fixture
def tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The tags of a file of four row groups that holds IDS."""
    monkeypatch.setattr(data_files, "GROUP_ROWS", 20)
    rows = [{"image_id": name, "key": f"crops/{name}/{number}.jpg"} for number, name in enumerate(IDS)]
    writer = data_files.DataFileWriter(tmp_path / "part", CATALOGUE, None, rows=len(rows))
    writer.write(pa.Table.from_pylist(rows, CATALOGUE))
    writer.close()
    tags: dict[str, Any] = writer.action("part", 0, data_change=True)["tags"]
    return tags


@pytest.mark.parametrize("column", blooms.COLUMNS)
def test_the_filters_hold_every_value_of_their_row_group(
    tmp_path: Path, spec: StoreSpec, tags: dict[str, Any], column: str
) -> None:
    file = pq.ParquetFile(tmp_path / "part")
    assert file.num_row_groups == 4
    for group in range(4):
        for value in file.read_row_group(group, columns=[column])[column].to_pylist():
            found = blooms.groups_that_may_hold(spec, "part", tags, column, blooms.hashes_of([value]))
            assert found is not None
            assert group in found


def test_the_filters_rule_out_what_another_reader_rules_out(
    tmp_path: Path, spec: StoreSpec, tags: dict[str, Any]
) -> None:
    """The oracle: DuckDB reads the same filters with its own code."""
    database, path, ruled_out = duckdb.connect(), str(tmp_path / "part"), 0
    for number in range(100):
        value = f"not-{number}"
        probed = database.execute(
            "SELECT row_group_id FROM parquet_bloom_probe(?, 'image_id', ?) WHERE NOT bloom_filter_excludes",
            [path, value],
        ).fetchall()
        found = blooms.groups_that_may_hold(spec, "part", tags, "image_id", blooms.hashes_of([value]))
        assert found == sorted(group for (group,) in probed)
        ruled_out += not found
    assert ruled_out > 80


def test_many_values_at_once_find_the_row_groups_of_each(spec: StoreSpec, tags: dict[str, Any]) -> None:
    """For many values whole filters are read, for few one block a value."""
    others = [f"not-{number}" for number in range(100)]

    def groups(values: list[str]) -> list[int] | None:
        return blooms.groups_that_may_hold(spec, "part", tags, "image_id", blooms.hashes_of(values))

    each = {group for value in [*others, "photo-59"] for group in groups([value]) or ()}
    assert groups([*others, "photo-59"]) == sorted(each)
    assert 3 in each


def test_a_file_that_ends_early_is_an_error(tmp_path: Path, spec: StoreSpec, tags: dict[str, Any]) -> None:
    (tmp_path / "part").write_bytes((tmp_path / "part").read_bytes()[:100])
    with pytest.raises(StorageError, match="part is shorter than it was"):
        blooms.groups_that_may_hold(spec, "part", tags, "image_id", blooms.hashes_of(["a"]))


@pytest.mark.parametrize("merged", [False, True])
def test_a_look_up_opens_the_file_that_holds_the_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, merged: bool
) -> None:
    """Statistics rule none of these files out: each has photos from a to z."""
    catalogue = Catalogue(StoreSpec(tmp_path.as_uri()))
    for number in range(6):
        append(catalogue, crops(["a" * (number + 1), f"m{number}", "z" * (number + 1)]), f"batch-{number}")
    if merged:
        maintenance(tmp_path)
        for number in range(6):
            append(catalogue, crops([f"b{number}", f"y{number}"]), f"batch-b{number}")
    opened: list[str] = []
    real = positions.open_file

    def counted(spec: StoreSpec, file: Any, **options: Any) -> pq.ParquetFile:
        opened.append(file.path)
        return real(spec, file, **options)

    monkeypatch.setattr(positions, "open_file", counted)
    assert catalogue.image_rows("cameras", "m4")["box_id"].to_pylist() == ["b0", "b1"]
    row = catalogue.find("crops/default/cameras/m4/v1/0001.jpg")
    assert row is not None
    assert row["box_id"] == "b1"
    assert len(set(opened)) == 1
    assert catalogue.image_rows("cameras", "m44").num_rows == 0


def test_a_file_whose_rows_died_still_names_its_filters(tmp_path: Path) -> None:
    catalogue = Catalogue(StoreSpec(tmp_path.as_uri()))
    append(catalogue, crops(["a", "b"]), "batch-1")
    append(catalogue, crops(["a"], version="v2"), "batch-2", superseding=[("cameras", "a", "default")])
    adds = live_files(objects_in(tmp_path / "catalogue"))
    assert [bool(add.get("deletionVector")) for add in adds].count(True) == 1
    assert all(add["tags"][blooms.TAG] for add in adds)

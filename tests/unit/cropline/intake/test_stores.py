"""The stores table: reading it, and the cameras that it lists."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cropline.core.errors import ManifestError
from cropline.core.store_spec import StoreSpec
from cropline.intake.stores import read_cameras, read_store_columns, read_stores, with_store_columns


def table(path: Path, **columns: list[Any]) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_cameras_are_known_by_store(tmp_path: Path) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    where = table(
        tmp_path / "s.parquet", store_id=["s1", "s2", None, "s3"], cameras=[["a", "b"], None, ["c"], ["a", None]]
    )
    assert read_cameras(spec, where) == {("s1", "a"), ("s1", "b"), ("s3", "a")}
    assert read_stores(spec, where)["store_id"].to_pylist() == ["s1", "s2", "s3"]


def test_a_table_without_cameras_knows_none_and_says_nothing_of_them(tmp_path: Path) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    assert read_cameras(spec, None) is None
    assert read_cameras(spec, table(tmp_path / "s.parquet", store_id=["s1"])) is None


def test_cameras_that_are_no_list_are_named(tmp_path: Path) -> None:
    where = table(tmp_path / "s.parquet", store_id=["s1"], cameras=[7])
    with pytest.raises(ManifestError, match="cameras is not a list of ids"):
        read_cameras(StoreSpec(tmp_path.as_uri()), where)


TEXT = [
    ("whole numbers", pa.array([7, 8, None]), ["7", "8"]),
    ("floats of pandas", pa.array([7.0, None, 8.0]), ["7", "8"]),
    ("categories", pa.array(["s1", "s2", "s1"]).dictionary_encode().take(pa.array([0, 1])), ["s1", "s2"]),
    ("large text", pa.array(["s1", "s2"], pa.large_string()), ["s1", "s2"]),
    ("nothing", pa.nulls(2), []),
    ("no rows", pa.array([], pa.string()), []),
]


@pytest.mark.parametrize(("column", "ids"), [entry[1:] for entry in TEXT], ids=[entry[0] for entry in TEXT])
def test_ids_of_any_plain_type_are_text(tmp_path: Path, column: pa.Array, ids: list[str]) -> None:
    pq.write_table(pa.table({"store_id": column, "store_name": column}), tmp_path / "s.parquet")
    read = read_stores(StoreSpec(tmp_path.as_uri()), str(tmp_path / "s.parquet"))
    assert read["store_id"].to_pylist() == read["store_name"].to_pylist() == ids
    assert read["city"].to_pylist() == [None] * len(ids)


ODD = [
    ("a list as a name", {"store_id": ["s1"], "store_name": [["a"]]}, "store_name is not text but list"),
    ("a nested name", {"store_id": ["s1"], "store_name": [{"de": "a"}]}, "store_name is not text but struct"),
    ("a map as a region", {"store_id": ["s1"], "region": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))}, "region is not text but map"),
    ("a list as an id", {"store_id": [["s1"]]}, "store_id is not text but list"),
    ("ids with halves", {"store_id": [1.5]}, "store_id is not text but double"),
    ("bytes that are no text", {"store_id": pa.array([b"\xff"], pa.binary())}, "store_id is not text but binary"),
    ("ids twice", {"store_id": ["s1", "s2", "s1"]}, "holds a store_id twice: s1"),
    ("numbers twice", {"store_id": [7, 7]}, "holds a store_id twice: 7"),
    ("no ids", {"name": ["s1"]}, "has no column store_id"),
    ("no columns", {}, "has no column store_id"),
    ("cameras of cameras", {"store_id": ["s1"], "cameras": [[["a"]]]}, "cameras is not a list of ids but list"),
    ("cameras as a map", {"store_id": ["s1"], "cameras": [{"a": 1}]}, "cameras is not a list of ids but struct"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "says"), [entry[1:] for entry in ODD], ids=[entry[0] for entry in ODD])
def test_a_table_of_odd_types_is_one_line(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    where = table(tmp_path / "s.parquet", **columns)
    read = read_cameras if "cameras" in columns else read_stores
    with pytest.raises(ManifestError) as caught:
        read(StoreSpec(tmp_path.as_uri()), where)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_twice_or_a_column_that_nobody_asked_for(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["s1"]), pa.array(["s2"])], names=["store_id", "store_id"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(ManifestError, match="has two columns store_id"):
        read_stores(StoreSpec(tmp_path.as_uri()), str(tmp_path / "twice.parquet"))
    where = table(tmp_path / "s.parquet", store_id=["s1"], shelves=[[{"a": [1]}]])
    assert read_stores(StoreSpec(tmp_path.as_uri()), where).num_rows == 1


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"store_id\ns1\n", b"PAR1" + bytes(100) + b"PAR1"], ids=["empty", "torn", "csv", "zeros"]
)
def test_a_file_that_is_no_parquet_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "s.parquet").write_bytes(data)
    with pytest.raises(ManifestError, match=r"^stores table \S+ cannot be read as Parquet \(\w+\)$"):
        read_stores(StoreSpec(tmp_path.as_uri()), str(tmp_path / "s.parquet"))


@pytest.mark.parametrize(
    "where", ["gone.parquet", "a//b", "../x", "", "/", "x" * 5_000], ids=lambda value: value[:8] or "none"
)
def test_a_table_that_is_nowhere_is_one_line(tmp_path: Path, where: str) -> None:
    with pytest.raises(ManifestError, match=r"^stores table [^\n]*$"):
        read_stores(StoreSpec(tmp_path.as_uri()), where)


def _own(tmp_path: Path, **columns: Any) -> pa.Table | None:
    pq.write_table(pa.table({"store_id": ["s1", "s2"], **columns}), tmp_path / "own.parquet")
    return read_store_columns(StoreSpec(tmp_path.as_uri()), str(tmp_path / "own.parquet"))


def test_own_columns_keep_their_types_and_join_each_row_by_its_store(tmp_path: Path) -> None:
    own = _own(
        tmp_path,
        city=["x", "y"],
        cameras=[["c"], []],
        area_m2=pa.array([120, None], pa.int32()),
        opened=pa.array([datetime(2020, 1, 1), None], pa.timestamp("ns")),
        label=pa.array(["a", "b"]).dictionary_encode(),
    )
    assert own is not None
    assert {field.name: str(field.type) for field in own.schema} == {
        "store_id": "string", "area_m2": "int32", "opened": "timestamp[us, tz=UTC]", "store_label": "string",
    }  # fmt: skip
    rows = pa.table({"store_id": ["s2", None, "s1", "other", "s1"], "box": [0, 1, 2, 3, 4]})
    joined = with_store_columns(rows, own, pa.schema([]))
    assert joined["box"].to_pylist() == [0, 1, 2, 3, 4]
    assert joined["area_m2"].to_pylist() == [None, None, 120, None, 120]
    assert joined["store_label"].to_pylist() == ["b", None, "a", None, "a"]
    assert with_store_columns(joined, own, joined.schema).equals(joined), "joined again it is the same"


def test_a_table_without_own_columns_has_none(tmp_path: Path) -> None:
    assert _own(tmp_path, region=["n", "s"]) is None
    assert read_store_columns(StoreSpec(tmp_path.as_uri()), None) is None


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ({"wait": pa.array([1, 2], pa.duration("s"))}, "the catalogue cannot store wait, which is duration"),
        ({"no name": ["a", "b"]}, "cannot have a column 'no name': rename it"),
        ({"label": ["a", "b"], "store_label": ["a", "b"]}, "two columns store_label"),
    ],
)
def test_a_column_that_the_catalogue_cannot_have_is_named(tmp_path: Path, column: dict[str, Any], says: str) -> None:
    with pytest.raises(ManifestError, match=f"stores table .*own.parquet.*{says}"):
        _own(tmp_path, **column)


def test_a_column_that_the_catalogue_has_as_another_type_is_named(tmp_path: Path) -> None:
    own = _own(tmp_path, area=[1, 2])
    with pytest.raises(ManifestError, match="column area is int64, but the catalogue has it as string: rename it"):
        with_store_columns(pa.table({"store_id": ["s1"]}), own, pa.schema([("area", pa.string())]))

"""The store table: which cameras it knows."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cropline.errors import ManifestError
from cropline.storage import StoreSpec
from cropline.stores import read_cameras, read_stores


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
    with pytest.raises(ManifestError, match="cameras is no list of ids"):
        read_cameras(StoreSpec(tmp_path.as_uri()), where)

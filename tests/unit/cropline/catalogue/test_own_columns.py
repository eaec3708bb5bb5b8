"""Columns of users in the catalogue: typed, null for others, kept by every commit that rewrites rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from cropline.catalogue import CATALOGUE, Catalogue
from cropline.core.store_spec import StoreSpec
from tests.unit.cropline.catalogue.test_catalogue import append, crops

OWN = {
    "sku": pa.array(["cola", None]),
    "sku_score": pa.array([0.25, float("nan")]),
    "embedding": pa.array([[0.5, 1.0], None], pa.list_(pa.float32())),
    "facings": pa.array([3, None], pa.int32()),
    "own": pa.array([b"\0\xff", None], pa.binary()),
}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(StoreSpec(tmp_path.as_uri()))


def with_own(table: pa.Table) -> pa.Table:
    for name, column in OWN.items():
        table = table.append_column(name, column)
    return table


def test_they_are_added_once_they_come_and_are_null_in_other_rows(catalogue: Catalogue, tmp_path: Path) -> None:
    append(catalogue, crops(["before"]), "batch-1")
    assert catalogue.columns() == CATALOGUE
    append(catalogue, with_own(crops(["a"])), "batch-2")
    append(catalogue, crops(["after"]), "batch-3")
    rows = {
        (row["image_id"], row["box_index"]): row
        for row in pa.table(DeltaTable(str(tmp_path / "catalogue")).scan()).to_pylist()
    }
    assert len(rows) == 6
    assert [rows["a", 0][name] for name in OWN] == ["cola", 0.25, [0.5, 1.0], 3, b"\0\xff"]
    assert all(rows[image, 0][name] is None for image in ("before", "after") for name in OWN)
    assert catalogue.columns() == pa.schema([*CATALOGUE, *((name, column.type) for name, column in OWN.items())])
    assert catalogue.fence("batch-9", 2) is False
    assert catalogue.fence("batch-2", 2) is True


def test_a_good_row_that_stays_keeps_them(catalogue: Catalogue) -> None:
    append(catalogue, with_own(crops(["a"])), "batch-1")
    failed = crops(["a"], version="v2", status="failed", reason="http_404", key=None)
    done = append(catalogue, failed, "batch-2", superseding=[("cameras", "a", "default")])
    assert done.rows is not None
    row = done.rows.to_pylist()[0]
    assert (row["recrop_reason"], row["sku"], row["embedding"]) == ("http_404", "cola", [0.5, 1.0])
    held = catalogue.batch_rows("batch-2")
    assert held is not None
    assert held.schema == done.rows.schema
    (found, *_) = catalogue.image_rows("cameras", "a").to_pylist()
    assert (found["sku"], found["own"]) == ("cola", b"\0\xff")


def test_a_superseding_batch_without_them_and_maintenance_leave_those_of_other_images(catalogue: Catalogue) -> None:
    append(catalogue, with_own(crops(["a"], shard="shards/p/1.tar")), "batch-1")
    append(catalogue, crops(["b"], shard="shards/p/1.tar"), "batch-2")
    append(catalogue, crops(["b"], version="v2"), "batch-3", superseding=[("cameras", "b", "default")])
    catalogue.rewrite_shard(
        "shards/p/1.tar",
        lambda rows: rows.set_column(
            rows.schema.get_field_index("shard"), "shard", pa.array(["shards/p/2.tar"] * len(rows))
        ),
    )
    catalogue.maintain()
    catalogue.forget_images("cameras", ["b"])
    rows = catalogue.image_rows("cameras", "a")
    assert (len(rows), len(catalogue.image_rows("cameras", "b"))) == (2, 0)
    assert rows.select(list(OWN)).to_pylist()[0] == {
        "sku": "cola", "sku_score": 0.25, "embedding": [0.5, 1.0], "facings": 3, "own": b"\0\xff",
    }  # fmt: skip

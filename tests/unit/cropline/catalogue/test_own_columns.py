"""Columns of users in the catalogue: typed, null for others, kept by every commit that rewrites rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from cropline.catalogue import CATALOGUE, Catalogue
from cropline.core.errors import CatalogueError
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


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("sku", pa.array([1, 2]), "column sku is int64, but the catalogue has sku as string; rename it"),
        ("facings", pa.array([1, 2**40]), "column facings is int64, but the catalogue has facings as int32; rename it"),
        ("SKU", pa.array(["a", "b"]), "column SKU is string, but the catalogue has sku as string; rename it"),
        ("else", pa.nulls(2), "column else is null, which the catalogue cannot store"),
    ],
)
def test_a_column_that_readers_could_not_read_is_refused_and_the_table_stays_as_it_was(
    catalogue: Catalogue, name: str, values: pa.Array, why: str
) -> None:
    """Two first polls may both find no catalogue when they check their columns: the second commit is refused."""
    append(catalogue, with_own(crops(["a"])), "batch-1")
    columns = ["key", "sku", "facings", "embedding"]
    before = catalogue.rows(columns=columns)
    with pytest.raises(CatalogueError, match=why):
        append(catalogue, crops(["b"]).append_column(name, values), "batch-2")
    catalogue.maintain(vacuum_after=None)
    assert catalogue.rows(columns=columns).equals(before)


def test_texts_of_every_kind_are_one_column(catalogue: Catalogue) -> None:
    texts = pa.array(["cola", "lemon"])
    for number, kind in enumerate((pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()))):
        append(catalogue, crops([str(number)]).append_column("sku", texts.cast(kind)), f"batch-{number}")
    assert catalogue.columns().field("sku").type == pa.string()
    assert catalogue.rows()["sku"].to_pylist() == ["cola", "lemon"] * 3

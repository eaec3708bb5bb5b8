"""Other tools read the table after every kind of commit: no dead row, plain types. Others refuse it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaProtocolError

from cropline.catalogue import Catalogue
from cropline.catalogue.reading import read_crops
from cropline.core.store_spec import StoreSpec
from tests.delta_log import rows_in
from tests.java import java_home
from tests.unit.cropline.catalogue.test_catalogue import NOW, append, crops


def _work(*images: str) -> set[tuple[str, str, str]]:
    return {("cameras", image, "default") for image in images}


def _moved(rows: pa.Table) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index("shard"), "shard", pa.array(["shards/new.tar"] * len(rows)))


# What is done, and the photos whose rows are current afterwards. Each has two rows.
COMMITS: dict[str, tuple[Callable[[Catalogue], object], str]] = {
    "append": (lambda c: append(c, crops(list("abcd")), "1"), "abcd"),
    "append another day": (lambda c: append(c, crops(["e"], day="2026-11-23"), "2"), "abcde"),
    "append to packs": (lambda c: append(c, crops(["f"], shard="shards/old.tar"), "3"), "abcdef"),
    "supersede": (
        lambda c: append(c, crops(["a"], version="v2"), "4", superseding=_work("a")),
        "abcdef",
    ),
    "fence": (lambda c: c.fence("5", 2), "abcdef"),
    "erase": (lambda c: c.forget_images("cameras", ["b"]), "acdef"),
    "move a pack": (lambda c: c.rewrite_shard("shards/old.tar", _moved), "acdef"),
    "append an old profile": (lambda c: append(c, crops(["o"], profile="old"), "6"), "acdefo"),
    "expire": (lambda c: list(c.expire("old", NOW + timedelta(days=1))), "acdef"),
    "remove duplicates": (
        lambda c: (append(c, crops(["c"]), "7"), c.remove_duplicates()),
        "acdef",
    ),
    "maintain": (lambda c: c.maintain(vacuum_after=timedelta(days=30)), "acdef"),
    "erase after maintain": (lambda c: c.forget_images("cameras", ["d"]), "acef"),
}


def daft_reads(folder: Path) -> list[str]:
    import daft

    rows = read_crops("status = 'written'", frame="arrow", storage=folder.as_uri())
    return list(daft.from_arrow(rows).to_pydict()["image_id"])


def polars_reads(folder: Path) -> list[str]:
    import polars as pl

    frame = pl.scan_delta(str(folder / "catalogue")).filter(pl.col("status") == "written")
    return list(frame.collect()["image_id"])


def duckdb_reads(folder: Path) -> list[str]:
    import duckdb

    crops = pa.RecordBatchReader.from_stream(DeltaTable(str(folder / "catalogue")).scan())  # noqa: F841 - named in SQL
    return [row[0] for row in duckdb.sql("SELECT image_id FROM crops WHERE status = 'written'").fetchall()]


def delta_reads(folder: Path) -> list[str]:
    rows = QueryBuilder().register("crops", DeltaTable(str(folder / "catalogue")))
    return list(pa.table(rows.execute("SELECT image_id FROM crops WHERE status = 'written'"))["image_id"].to_pylist())


def log_reads(folder: Path) -> list[str]:
    return [row["image_id"] for row in rows_in(folder / "catalogue") if row["status"] == "written"]


READERS = (daft_reads, polars_reads, duckdb_reads, delta_reads, log_reads)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run the commits in their order, as far as the test that asks."""
    folder = tmp_path_factory.mktemp("table")
    catalogue = Catalogue(StoreSpec(folder.as_uri()))
    left = list(COMMITS)

    def up_to(name: str) -> Path:
        while left and name in left:
            COMMITS[left.pop(0)][0](catalogue)
        return folder

    return up_to


@pytest.mark.parametrize("name", COMMITS)
def test_every_reader_reads_the_table_after(steps: Callable[[str], Path], name: str) -> None:
    folder = steps(name)
    expected = Counter(image for image in COMMITS[name][1] for _ in range(2))
    assert {reads.__name__: Counter(reads(folder)) for reads in READERS} == {
        reads.__name__: expected for reads in READERS
    }
    types = {
        str(field.type) for path in DeltaTable(str(folder / "catalogue")).file_uris() for field in pq.read_schema(path)
    }
    assert types == {"string", "int64", "double", "timestamp[us, tz=UTC]"}


def test_a_reader_that_cannot_leave_out_dead_rows_refuses_the_table(tmp_path: Path) -> None:
    """From the first commit on: nobody builds on a reader that works until the first photo is superseded."""
    import daft

    append(Catalogue(StoreSpec(tmp_path.as_uri())), crops(["a"]), "1")
    with pytest.raises(DeltaProtocolError, match="deletionVectors"):
        DeltaTable(str(tmp_path / "catalogue")).to_pyarrow_dataset()
    with pytest.raises(NotImplementedError, match="(?i)deletion vectors"):
        daft.read_deltalake(str(tmp_path / "catalogue")).count_rows()


ON_SPARK = """
import sys
from collections import Counter
from pathlib import Path
from pyspark.sql import SparkSession
from cropline.catalogue import Catalogue
from cropline.catalogue.reading import read_crops
from cropline.core.store_spec import StoreSpec
from tests.unit.cropline.catalogue.test_other_readers import COMMITS

folder = Path(sys.argv[1])
catalogue = Catalogue(StoreSpec(folder.as_uri()))
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
for name, (does, images) in COMMITS.items():
    does(catalogue)
    rows = read_crops("status = 'written'", columns=["image_id"], frame=spark, storage=folder.as_uri()).collect()
    assert Counter(row[0] for row in rows) == Counter(image for image in images for _ in range(2)), name
"""


@pytest.mark.slow
def test_spark_reads_the_table_after_every_commit(tmp_path: Path) -> None:
    env = os.environ | {"JAVA_HOME": str(java_home() or ""), "PYSPARK_PYTHON": sys.executable}
    ran = subprocess.run(
        [sys.executable, "-c", ON_SPARK, str(tmp_path)], env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]

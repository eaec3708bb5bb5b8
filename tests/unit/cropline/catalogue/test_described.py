"""The table describes itself: comments on columns, statistics by which readers skip files, types that sort."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from cropline.catalogue import CATALOGUE, Catalogue
from cropline.core.columns import CATALOGUE_COLUMNS
from cropline.core.store_spec import StoreSpec
from tests.unit.cropline.catalogue.test_catalogue import NOW, append, crops

WANTED = {"committed_at", "captured_at", "store_id", "camera_id", "image_id", "batch_id", "key"}


def _comments(folder: Path) -> dict[str, str | None]:
    return {field.name: field.metadata.get("comment") for field in DeltaTable(str(folder)).schema().fields}


def _statistics(folder: Path) -> set[str]:
    """Return the columns with a minimum in the newest file of the log."""
    log = sorted((folder / "_delta_log").glob("*.json"))
    for entry in reversed(log):
        for line in reversed(entry.read_text().splitlines()):
            if "add" in (action := json.loads(line)):
                return set(json.loads(action["add"]["stats"])["minValues"])
    raise AssertionError("no file was added")


def test_a_new_table_has_comments_statistics_and_times_as_times(tmp_path: Path) -> None:
    append(Catalogue(StoreSpec(tmp_path.as_uri())), crops(["a"], store_id="s", camera_id="c"), "1")
    assert _comments(tmp_path / "catalogue") == {name: column.comment for name, column in CATALOGUE_COLUMNS.items()}
    assert _statistics(tmp_path / "catalogue") >= WANTED
    kinds = {field.name: str(field.type) for field in DeltaTable(str(tmp_path / "catalogue")).schema().fields}
    assert "timestamp" in kinds["captured_at"]


def test_maintenance_describes_a_table_of_an_earlier_version_once(tmp_path: Path) -> None:
    DeltaTable.create(
        str(tmp_path / "catalogue"),
        pa.schema([field for field in CATALOGUE if not field.name.startswith("recrop")]),
        partition_by=["captured_date"],
        configuration={"delta.dataSkippingStatsColumns": "key"},
    )
    catalogue = Catalogue(StoreSpec(tmp_path.as_uri()))
    append(catalogue, crops(["a"]), "1")
    catalogue.maintain(vacuum_after=timedelta(days=30))
    version = catalogue.version()
    catalogue.maintain(compact=False, vacuum_after=None, checkpoint=False)
    assert catalogue.version() == version
    assert _comments(tmp_path / "catalogue") == {name: column.comment for name, column in CATALOGUE_COLUMNS.items()}
    append(catalogue, crops(["b"], store_id="s", camera_id="c"), "2")
    assert _statistics(tmp_path / "catalogue") >= WANTED
    assert catalogue.rows()["image_id"].to_pylist().count("a") == 2


@pytest.mark.parametrize("column", sorted(WANTED))
def test_a_filter_on_the_column_skips_files(tmp_path: Path, column: str) -> None:
    """The oracle is delta-rs' own planning of files, by the statistics in the log."""
    catalogue = Catalogue(StoreSpec(tmp_path.as_uri()))
    for batch, image in enumerate("ab"):
        catalogue.append(
            crops([image], store_id=image, camera_id=image).set_column(
                CATALOGUE.names.index("captured_at"), "captured_at", pa.array([f"2026-11-22T0{batch}:00:00Z"] * 2)
            ),
            batch_id=f"batch-{image}",
            attempt=1,
            flow_run="f",
            committed_at=NOW + timedelta(hours=batch),
        )
    table = DeltaTable(str(tmp_path / "catalogue"))
    actions = pa.table(table.get_add_actions(flatten=True))
    lows, highs = (actions[f"{end}.{column}"].to_pylist() for end in ("min", "max"))
    assert sorted(zip(lows, highs, strict=True))[0][1] < sorted(zip(lows, highs, strict=True))[1][0]

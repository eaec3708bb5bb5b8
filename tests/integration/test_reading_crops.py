"""What readers get from one poll with all output kinds side by side: exports with photos, described columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from PIL import Image

from cropline import read_crops
from cropline.core.columns import CATALOGUE_COLUMNS
from cropline.maintenance import index_packs
from cropline.state import State
from demo.server import DemoServer
from tests.integration.commands import cropline
from tests.integration.conftest import Workspace, settled
from tests.integration.fork_server import ForkServer

PROFILES = {"default": {}, "train": {"output": "shards"}, "table": {"output": "parquet", "max_side": 64}}
PAGE = Path(__file__).parents[2] / "docs" / "reading-crops.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def polled(
    steady_api: DemoServer, prefect_server: None, forks: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """A workspace after one poll."""
    with (
        pytest.MonkeyPatch.context() as patch,
        settled(tmp_path_factory.mktemp("readers"), steady_api, forks, patch) as here,
    ):
        stores = sorted({str(image["store_id"]) for image in steady_api.control.images()})
        areas = {"store_id": stores, "area_m2": pa.array(range(len(stores)), pa.int32())}
        pq.write_table(pa.table(areas), here.folder / "stores.parquet")
        here.set(
            LINEAGE__TRANSPORT="none", PROFILES=json.dumps(PROFILES), ENGINE__STORES=str(here.folder / "stores.parquet")
        )
        here.poll()
        with State.open(here.settings.state) as state:
            index_packs(here.settings.storage.spec, state)
        yield here


def test_columns_that_are_said_to_be_never_null_are_never_null(polled: Workspace) -> None:
    never = [name for name, column in CATALOGUE_COLUMNS.items() if not column.null]
    assert "committed_at" in never
    assert [(name, row["key"]) for row in polled.rows() for name in never if row[name] is None] == []


def test_coco_with_photos_fetches_them_again_upright(
    polled: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = cropline(
        capsys, "export", str(tmp_path / "out"), "--format", "coco", "--profile", "default", "--with-photos"
    )
    assert told.code == 0, told.err
    coco = json.loads((tmp_path / "out/annotations.json").read_text())
    rows = [row for row in polled.rows() if row["profile"] == "default" and row["status"] == "written"]
    assert len(coco["annotations"]) == len(rows)
    assert {image["photo_id"] for image in coco["images"]} == {row["image_id"] for row in rows}
    sizes = {row["image_id"]: (row["image_width"], row["image_height"]) for row in rows}
    for image in coco["images"]:
        with Image.open(tmp_path / "out" / image["file_name"]) as photo:
            assert photo.size == sizes[image["photo_id"]] == (image["width"], image["height"])
            assert not photo.getexif()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--with-photos"], "--with-photos is for --format coco"),
        (["--by", "store_id"], "give --split too"),
        (["--version", "yesterday"], "neither the number of a version nor a time"),
        ([], "of the profiles default, table, train, so boxes are there more than once: name one with --profile"),
    ],
)
def test_options_that_do_not_fit_are_named(
    polled: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], told: str
) -> None:
    ended = cropline(capsys, "export", str(tmp_path / "out"), *options)
    assert ended.code == 2
    assert told in " ".join(ended.err.split())


def test_a_consumer_with_a_cursor_gets_each_change_once(
    polled: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cursor = tmp_path / "cursor"
    first = cropline(capsys, "changes", "--cursor", str(cursor))
    lines = [json.loads(line) for line in first.out.splitlines()]
    rows = polled.rows()
    assert sorted(line["key"] or "" for line in lines) == sorted(row["key"] or "" for row in rows)
    assert first.err == f"{len(rows)} changes; go on with --since {cursor.read_text().strip()}\n"
    again = cropline(capsys, "changes", "--cursor", str(cursor), "--out", str(tmp_path / "c.parquet"))
    assert again.err.startswith("0 changes; ")
    cropline(capsys, "changes", "--since", "0", "--out", str(tmp_path / "all.parquet"))
    assert pq.read_table(tmp_path / "all.parquet").num_rows == len(rows)
    (tmp_path / "bad").write_text("v1")
    assert "does not hold the number" in cropline(capsys, "changes", "--cursor", str(tmp_path / "bad")).err


def _written(workspace: Workspace, profile: str | None = None) -> int:
    rows = workspace.rows()
    return sum(row["status"] == "written" and profile in (None, row["profile"]) for row in rows)


@pytest.mark.parametrize(
    "snippet", SNIPPETS, ids=lambda snippet: re.findall(r"^(?:import|from) (\w+)", snippet, re.MULTILINE)[-1]
)
def test_every_snippet_of_the_page_reads_every_current_crop(
    polled: Workspace, snippet: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(snippet, {"storage": polled.settings.storage.url})
    told = re.search(r"crops(?: of (\w+))?: (\d+)", capsys.readouterr().out)
    assert told is not None
    assert int(told[2]) == _written(polled, told[1])


def test_the_page_has_a_snippet_for_every_tool() -> None:
    text = "\n".join(SNIPPETS)
    for tool in ("duckdb", "polars", "daft", "lance", "webdataset", "datasets", "cropline.changes", "read_crops"):
        assert tool in text


def test_a_column_of_the_stores_table_reaches_the_catalogue_with_its_type(polled: Workspace) -> None:
    rows = read_crops(storage=polled.settings.storage.url, frame="arrow").to_pylist()
    areas = {row["store_id"]: row["area_m2"] for row in pq.read_table(polled.folder / "stores.parquet").to_pylist()}
    assert len(rows) == len(polled.rows())
    assert all(row["area_m2"] == areas[row["store_id"]] for row in rows)
    schema = DeltaTable(f"{polled.settings.storage.url}/catalogue").schema()
    assert {field.name: str(field.type) for field in schema.fields}["area_m2"] == 'PrimitiveType("integer")'

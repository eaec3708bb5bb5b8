"""Columns of steps and of a script of one's own, from the settings to the catalogue, trace and exports."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cropline
from cropline.cli.trace import chain
from cropline.core.errors import CroplineError
from cropline.export import Choice, Layout, export
from tests.contract import jobs
from tests.integration.conftest import Workspace

SHOP = '''
class Classifier:
    """Reads a product from the height of a crop."""

    def __call__(self, images, rows):
        return [
            {"sku": "tall" if image.height > image.width else "wide", "score": image.height / image.width,
             "embedding": [float(image.width), float("nan")]}
            for image in images
        ]
'''
STEP = {
    "use": "height_shop:Classifier", "batch": 8, "timeout_s": 30,
    "columns": {"sku": "string", "score": "double", "embedding": "list<float>"},
}  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "height_shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_they_reach_the_catalogue_trace_and_exports(workspace: Workspace, shop: None, tmp_path: Path) -> None:
    workspace.poll()
    before = workspace.rows()
    profiles = {"default": {}, "sku": {"format": "png", "steps": [STEP]}}
    pq.write_table(pa.table({"sku": ["tall", "wide"], "price": [1.5, 2.5]}), tmp_path / "products.parquet")
    script = tmp_path / "own.fsql"
    script.write_text(
        jobs.OWN.format(where="", end="").replace("crops =", "found =")
        + "crops = SELECT found.*, products.price FROM found LEFT JOIN products ON found.sku = products.sku "
        "YIELD DATAFRAME"
    )
    workspace.set(
        PROFILES=json.dumps(profiles),
        ENGINE__SCRIPT=str(script),
        ENGINE__FRAMES=json.dumps({"products": (tmp_path / "products.parquet").as_uri()}),
    )
    workspace.api.control.advance(photos=2)
    workspace.poll()
    rows = cropline.read_crops(frame="arrow").to_pylist()
    sku = [row for row in rows if row["profile"] == "sku" and row["status"] == "written"]
    assert len(rows) > len(before)
    assert sku
    for row in sku:
        assert row["sku"] == ("tall" if row["height"] > row["width"] else "wide")
        assert row["price"] == {"tall": 1.5, "wide": 2.5}[row["sku"]]
        assert (row["sku_score"], row["embedding"][0]) == (row["height"] / row["width"], float(row["width"]))
        assert row["score"] != row["sku_score"], "the detector's score stays"
    assert all(row["sku"] is row["price"] is row["embedding"] is None for row in rows if row["profile"] == "default")

    told = chain(sku[0] | {"superseded_in": None}, None, "format=png")
    assert [text for _, text in told if text.startswith(("sku = ", "price = ", "sku_score = "))] == [
        f"sku_score = {sku[0]['sku_score']}", f"sku = {sku[0]['sku']}", f"price = {sku[0]['price']}",
    ]  # fmt: skip

    spec = workspace.settings.storage.spec
    export(spec, tmp_path / "folder", Choice("sku = 'tall'"), Layout("folder"))
    lines = [json.loads(line) for line in (tmp_path / "folder" / "metadata.jsonl").read_text().splitlines()]
    assert {(line["sku"], line["price"]) for line in lines} == {("tall", 1.5)}
    assert all(line["embedding"][1] is None for line in lines)
    export(spec, tmp_path / "parquet", Choice("sku IS NOT NULL"), Layout("parquet"))
    table = pq.read_table(tmp_path / "parquet" / "000000.parquet")
    assert table.schema.field("embedding").type == pa.list_(pa.float32())
    assert table.select(["sku", "price"]).to_pylist()[0]["price"] in (1.5, 2.5)


def test_a_column_of_another_type_than_the_catalogues_is_refused_before_anything_is_registered(
    workspace: Workspace, shop: None
) -> None:
    workspace.set(PROFILES=json.dumps({"sku": {"steps": [STEP]}}))
    workspace.poll()
    before = workspace.rows()
    changed = STEP | {"columns": STEP["columns"] | {"sku": "long"}}  # type: ignore[operator]
    workspace.set(PROFILES=json.dumps({"sku": {"steps": [changed]}}))
    workspace.api.control.advance(photos=1)
    with pytest.raises(CroplineError, match="column sku is int64, but the catalogue has sku as string; rename it"):
        workspace.poll()

    workspace.set(PROFILES=json.dumps({"sku": {"steps": [STEP]}}))
    workspace.poll()
    rows = workspace.rows()
    assert len(rows) > len(before)
    assert {row["profile_hash"] for row in rows} == {row["profile_hash"] for row in before}, (
        "no work of the refused poll"
    )
    assert set(workspace.states().values()) == {"done"}

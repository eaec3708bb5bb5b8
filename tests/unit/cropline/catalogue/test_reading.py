"""read_crops and show: the catalogue as a DataFrame, crops as a picture."""

import io
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import cropline
from cropline.catalogue import Catalogue
from cropline.core.errors import CatalogueError
from cropline.core.schemas import CROPS
from cropline.core.storage import write
from cropline.core.store_spec import StoreSpec
from cropline.export.choose import Choice, choose
from tests.photos import drawn, encoded
from tests.unit.cropline.catalogue.test_catalogue import NOW, append, crops, maintenance


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> StoreSpec:
    spec = StoreSpec(tmp_path_factory.mktemp("store").as_uri())
    common = {"source": "cams", "version": "v1", "profile": "default", "status": "written", "width": 40, "height": 30}
    rows: list[dict[str, Any]] = [
        common | {"image_id": f"i{number}", "box_index": 0, "label": f"cola {number}", "key": f"crops/{number}.jpg"}
        for number in range(3)
    ]
    rows[2] |= {"status": "failed", "reason": "http_404", "key": None}
    for row in rows[:2]:
        write(spec, row["key"], encoded(drawn(40, 30)))
    crops = pa.Table.from_pylist(rows, schema=CROPS)
    Catalogue(spec).append(crops, batch_id="b1", attempt=1, flow_run="f", committed_at=NOW)
    return spec


def test_the_catalogue_comes_as_the_frame_that_was_asked_for(spec: StoreSpec) -> None:
    where = "status = 'written' AND label LIKE 'cola%'"
    frame = cropline.read_crops(where, storage=spec, columns=["image_id", "label"])
    assert isinstance(frame, pd.DataFrame)
    assert sorted(frame["image_id"]) == ["i0", "i1"]
    assert list(frame.columns) == ["image_id", "label"]
    assert cropline.read_crops(storage=spec.url, frame="arrow").num_rows == 3
    relation = cropline.read_crops(where, storage=spec, frame="duckdb")
    assert len(relation.filter("label = 'cola 1'").fetchall()) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"where": "labl = 1"}, "where: "),
        ({"where": "label = 'x'; DROP TABLE crops"}, "where: "),
        ({"where": "label IN (SELECT * FROM read_text('/etc/passwd'))"}, "where: "),
        ({"columns": ["nope"]}, "columns: "),
        ({"frame": "polars"}, "frame: 'polars' is neither one of pandas, arrow, duckdb"),
    ],
)
def test_a_wrong_condition_is_one_line_and_reads_nothing_else(
    spec: StoreSpec, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(cropline.OptionError) as raised:
        cropline.read_crops(storage=spec, **options)
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)


def test_a_version_whose_files_are_gone_is_no_wrong_condition(tmp_path: Path) -> None:
    catalogue = Catalogue(StoreSpec(tmp_path.as_uri()))
    work = [("cameras", "a", "default")]
    for version in ("v1", "v2"):
        append(catalogue, crops(["a"], version=version), version, superseding=work)
    maintenance(tmp_path)
    with pytest.raises(CatalogueError, match="^cannot read version 1 of the catalogue: a file of it is gone"):
        cropline.read_crops("status = 'written'", columns=["key"], storage=tmp_path.as_uri(), version=1)
    with (
        pytest.raises(CatalogueError, match="^cannot read version 1 of the catalogue"),
        choose(StoreSpec(tmp_path.as_uri()), Choice(version=1)),
    ):
        pass
    assert len(cropline.read_crops(storage=tmp_path.as_uri())) == 2


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("1", "'1' is neither the number of a version nor a time"),
        (datetime(2026, 1, 1), "the time 2026-01-01T00:00:00 has no time zone"),
        (99, "has no version 99"),
    ],
)
def test_a_wrong_version_is_named(spec: StoreSpec, version: Any, why: str) -> None:
    with pytest.raises(CatalogueError, match=why):
        cropline.read_crops(storage=spec, version=version)


def test_a_storage_without_a_catalogue_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no catalogue yet"):
        cropline.read_crops(storage=tmp_path.as_uri())


def test_a_sheet_shows_crops_of_the_catalogue_and_of_a_frame(spec: StoreSpec) -> None:
    rows = cropline.read_crops(storage=spec)
    sheet = cropline.show(rows, store=spec)
    assert sheet.crops == 3
    assert Image.open(io.BytesIO(sheet._repr_jpeg_())).format == "JPEG"
    assert 'alt="3 crops" src="data:image/jpeg;base64,' in sheet._repr_html_()
    data = encoded(drawn(40, 30))
    given = pd.DataFrame({"sku": ["a", None], "crop_status": ["written", "failed"], "crop_reason": [None, "timeout"]})
    given["crop_data"] = pd.Series([data, None], dtype=object)
    for frame in (given, pa.Table.from_pandas(given)):
        assert cropline.show(frame, title="sku").crops == 2
    assert cropline.show(given, limit=1).crops == 1
    for wrong, told in (({"title": "nope"}, "title: "), ({"limit": 0}, "limit: ")):
        with pytest.raises(cropline.OptionError, match=told):
            cropline.show(given, **wrong)  # type: ignore[arg-type]
    with pytest.raises(cropline.OptionError, match="crops: the frame has no result columns"):
        cropline.show(pd.DataFrame({"a": [1]}))

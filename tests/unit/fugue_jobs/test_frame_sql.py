"""cropline_crop in FugueSQL: the options of a line, on in-process engines."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fugue.collections.partition import PartitionSpec
from fugue.extensions.context import ExtensionContext

import cropline
import fugue_jobs.frame.plugin
from tests.photos import PhotoServer

ROOT = Path(__file__).parents[3]


pytestmark = pytest.mark.usefixtures("loopback")


@pytest.fixture
def frame(server: PhotoServer) -> pd.DataFrame:
    boxes = [{"xmin": 0.0, "ymin": 0.0, "xmax": 0.5, "ymax": 0.5 + 0.1 * number} for number in range(4)]
    return pd.DataFrame([{"ImgUrl": server.url(f"{n % 2}.jpg"), "sku": f"s{n}"} | box for n, box in enumerate(boxes)])


def run(sql: str, engine: str, **frames: Any) -> pd.DataFrame:
    from fugue.sql.api import fugue_sql

    out: pd.DataFrame = fugue_sql(sql, engine=engine, as_fugue=True, **frames).as_pandas()
    return out


@pytest.mark.parametrize("engine", ["native", "duckdb"])
def test_a_line_of_sql_crops_a_join_and_can_be_queried(
    frame: pd.DataFrame, server: PhotoServer, engine: str, tmp_path: Path
) -> None:
    products = pd.DataFrame({"sku": ["s0", "s1", "s2", "s3"], "title": ["Cola", "Water", "Tea", "Milk"]})
    server.served.clear()
    sql = f"""
    joined = SELECT frame.*, title FROM frame INNER JOIN products ON frame.sku = products.sku
    cut = TRANSFORM joined USING cropline_crop(store='{tmp_path}', profile={{max_side: 32, format: 'png'}})
    SELECT title, crop_key, crop_status, crop_width FROM cut ORDER BY title
    """
    out = run(sql, engine, frame=frame, products=products)
    assert out["title"].tolist() == ["Cola", "Milk", "Tea", "Water"]
    assert set(out["crop_status"]) == {"written"}
    assert set(out["crop_width"]) == {32}
    assert all((tmp_path / key).is_file() for key in out["crop_key"])
    assert dict(server.served) == {"0.jpg": 1, "1.jpg": 1}


def test_options_may_be_bound_before_the_line(frame: pd.DataFrame) -> None:
    mine = cropline.crops(profile=cropline.Profile(max_side=16), prefix="cut_")
    out = run("TRANSFORM frame USING mine", "native", frame=frame, mine=mine)
    assert out["cut_width"].tolist() == [16] * 4
    assert mine(frame)["cut_width"].tolist() == [16] * 4
    with pytest.raises(cropline.OptionError, match="units: 'inches'"):
        cropline.crops(units="inches")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("profile={max_sise: 3}", "profile: max_sise: no such field"),
        ("stor='x'", "stor: no such option"),
        ("units='pixels'", "units: no box is in pixels"),
        ("columns={image: 'photo'}", "columns: the frame has no column 'photo' for the image"),
    ],
)
def test_a_wrong_option_of_a_line_is_named(frame: pd.DataFrame, server: PhotoServer, options: str, told: str) -> None:
    server.served.clear()
    with pytest.raises(cropline.OptionError) as raised:
        run(f"TRANSFORM frame USING cropline_crop({options})", "native", frame=frame)
    assert str(raised.value).startswith(told)
    assert not server.served


def test_the_plugin_is_declared_and_imports_nothing_before_its_use() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (module,) = project["entry-points"]["fugue.plugins"].values()
    assert import_module(module) is fugue_jobs.frame.plugin
    code = (
        f"import fugue, {module}, sys; print('fugue_jobs.frame.transformer' in sys.modules, 'pyspark' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_fugue_lets_a_transformer_set_its_partitioning() -> None:
    """The one private attribute that the transformer needs."""
    context = ExtensionContext()
    context._partition_spec = PartitionSpec(by=["a"])  # type: ignore[attr-defined]
    assert context.partition_spec.partition_by == ["a"]

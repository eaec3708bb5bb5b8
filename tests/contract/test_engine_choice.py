"""Which engine runs, which options it gets, and the errors when it cannot run."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings
from cropline.core.errors import EngineError, StaleLease
from cropline.core.schemas import CROPS, fugue_expression
from cropline.pipeline.funnel import EngineUse
from fugue_jobs.engines.run import run_crop_job
from tests.contract import jobs
from tests.photos import PhotoServer, drawn, encoded, photo_server
from tests.ports import free_port

PROFILES = {"default": Profile(), "png": Profile(format="png")}


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    with photo_server() as served:
        served.photos["1.jpg"] = encoded(drawn(160, 120))
        yield served


def rows(server: PhotoServer, count: int = 3) -> list[dict[str, Any]]:
    boxes = [jobs.box("a", 0.1, 0.2, 0.5, 0.6), jobs.box("b", 0, 0, 1, 1)]
    return [jobs.image(i, server.url("1.jpg"), boxes, store_id=f"s{i}") for i in range(count)]


def run(server: PhotoServer, folder: Path, engine: dict[str, Any], **more: Any) -> pa.Table:
    images = rows(server)
    return run_crop_job(
        jobs.images(images),
        jobs.claims(images, PROFILES),
        jobs.stores("s0", "s1"),
        jobs.job(folder),
        EngineSettings.model_validate(engine),
        **more,
    )


def test_auto_cuts_few_in_process_and_says_why(server: PhotoServer, tmp_path: Path) -> None:
    told: list[EngineUse] = []
    table = run(server, tmp_path, {"kind": "auto"}, waiting=4_497, on_engine=told.append)
    assert table.num_rows == 12
    assert [(use.kind, use.reason) for use in told] == [
        ("native", "small: 4,500 images wait, at most 4,500 are cut in process")
    ]
    assert told[0].seconds > 0


@pytest.mark.parametrize("kind", ["native", "duckdb"])
def test_a_job_ends_with_what_its_check_raises(server: PhotoServer, tmp_path: Path, kind: str) -> None:
    def check() -> None:
        raise StaleLease("another attempt has the batch")

    with pytest.raises(StaleLease, match="another attempt has the batch"):
        run(server, tmp_path, {"kind": kind}, check=check)


def test_a_claim_without_its_manifest_row_is_an_error(server: PhotoServer, tmp_path: Path) -> None:
    images = rows(server)
    given = jobs.images(images[1:]), jobs.claims(images, PROFILES), jobs.stores(), jobs.job(tmp_path)
    with pytest.raises(EngineError, match="no manifest row"):
        run_crop_job(*given, EngineSettings())


def test_a_store_described_twice_is_an_error(server: PhotoServer, tmp_path: Path) -> None:
    images = rows(server)
    given = jobs.images(images), jobs.claims(images, PROFILES), jobs.stores("s", "s"), jobs.job(tmp_path)
    with pytest.raises(EngineError, match="store_id twice"):
        run_crop_job(*given, EngineSettings())


def test_an_engine_module_is_cheap_to_import() -> None:
    code = "import sys, fugue_jobs.engines.run, fugue_jobs.engines.plan; print(*sorted({'fugue', 'pyspark', 'duckdb', 'pandas', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_auto_sends_a_burst_to_the_cluster(server: PhotoServer, tmp_path: Path) -> None:
    nowhere = f"spark://127.0.0.1:{free_port()}"
    with pytest.raises(EngineError, match="no Spark master answers"):
        run(server, tmp_path, {"kind": "auto", "master": nowhere}, waiting=4_498)


@pytest.mark.parametrize("kind", ["spark", "spark-connect", "dask", "ray"])
def test_a_missing_server_is_reported_at_once(server: PhotoServer, tmp_path: Path, kind: str) -> None:
    port = free_port()
    pytest.importorskip({"dask": "distributed", "ray": "ray"}.get(kind, "pyspark"), reason=f"{kind} is not installed")
    settings = {
        "kind": kind,
        "master": f"spark://127.0.0.1:{port}",
        "connect": {"url": f"sc://127.0.0.1:{port}"},
        "dask": {"scheduler": f"tcp://127.0.0.1:{port}"},
        "ray": {"address": f"127.0.0.1:{port}"},
    }
    server.served.clear()
    with pytest.raises(EngineError, match=f"no (Spark|Dask|Ray) .* answers at 127.0.0.1:{port}"):
        run(server, tmp_path, settings)
    assert not server.served


def test_a_conf_that_spark_cannot_use_is_reported_with_its_name(server: PhotoServer, tmp_path: Path) -> None:
    from pyspark import SparkContext

    # PySpark's JVM would give the conf of its first session to all later ones.
    SparkContext._ensure_initialized()
    with pytest.raises(EngineError, match=r"^Spark did not start on local\[2\]: .*lots.*spark\.driver\.maxResultSize"):
        run(server, tmp_path, {"kind": "spark", "conf": {"spark.driver.maxResultSize": "lots"}})


def test_a_conf_that_a_connect_server_refuses_is_reported_with_its_name(
    server: PhotoServer, tmp_path: Path, spark_connect_url: str
) -> None:
    settings = {"kind": "spark-connect", "connect": {"url": spark_connect_url}, "conf": {"spark.executor.memory": "2g"}}
    with pytest.raises(EngineError, match=r"refuses spark\.executor\.memory of CROPLINE_ENGINE__CONF: CANNOT_MODIFY"):
        run(server, tmp_path, settings)


@pytest.mark.parametrize(("kind", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_says_how_to_install_it(
    server: PhotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # to Python: not there
    monkeypatch.delitem(sys.modules, f"fugue_jobs.engines.{kind}", raising=False)
    with pytest.raises(EngineError, match=rf"{package}: pip install 'cropline\[{kind}\]'"):
        run(server, tmp_path, {"kind": kind})


def test_the_connect_shim_is_still_needed() -> None:
    from fugue_spark._utils.misc import is_spark_connect
    from pyspark.sql.connect.session import SparkSession

    # When this fails, Fugue supports Connect: remove ConnectEngine and hand Fugue the session itself.
    assert not is_spark_connect(SparkSession.__new__(SparkSession))


# As in a script that was copied before these columns existed.
OLD_SCHEMA = fugue_expression(CROPS).replace(",decoder:str,image_phash:str", "")
BREACHES = [
    ("SELECT FROM nothing", "does not run"),
    (jobs.OWN.format(where="WHERE images.manifest_row < 2", end="YIELD DATAFRAME"), "loses 4 of 12 boxes"),
    (jobs.OWN.format(where="", end=""), "yields no frame crops"),
    (
        "crops = TRANSFORM images USING crop_images SCHEMA {{ crops_schema }} YIELD DATAFRAME",
        "does not pass crop_images the columns work, store_name",
    ),
    (
        jobs.OWN.format(where="", end="").replace("crops =", "some =")
        + "crops = SELECT key, status FROM some YIELD DATAFRAME",
        "crops lack the columns source, image_id",
    ),
    (
        jobs.OWN.format(where="", end="").replace("crops =", "some =")
        + "crops = SELECT * FROM some UNION ALL SELECT * FROM some YIELD DATAFRAME",
        "12 rows too many",
    ),
    (
        jobs.OWN.format(where="", end="YIELD DATAFRAME").replace("{{ crops_schema }}", OLD_SCHEMA),
        r"crops lack the columns decoder, image_phash: .*SCHEMA \{\{ crops_schema \}\}",
    ),
    ("", "own.fsql is empty: write one"),
    ("-- later\n/* or never */\n", "own.fsql is empty: write one"),
]


@pytest.mark.parametrize(("text", "told"), BREACHES, ids=[told for _, told in BREACHES])
def test_a_script_that_breaks_its_contract_is_refused_before_anything_is_fetched(
    server: PhotoServer, tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "own.fsql"
    path.write_text(text)
    server.served.clear()
    with pytest.raises(EngineError, match=told):
        run(server, tmp_path / "out", {"script": str(path)})
    assert not server.served


def filtered(condition: str) -> str:
    """Return a script with a filter after crop_images."""
    some = jobs.OWN.format(where="", end="").replace("crops =", "some =")
    return f"{some} crops = SELECT * FROM some WHERE {condition} YIELD DATAFRAME"


@pytest.mark.parametrize(
    "condition",
    [
        "status = 'written'",
        "status <> 'skipped'",
        "status <> 'failed'",
        "key IS NOT NULL",
        "key IS NULL",
        "width >= 32 OR width IS NULL",
        "bytes < 1000000 OR bytes IS NULL",
        "luminance > 0.1 OR luminance IS NULL",
        "luminance < 0.9 OR luminance IS NULL",
        "reason IS NULL OR reason <> 'below_min_side'",
        "image_width IS NOT NULL",
        "image_width < 10000 OR image_width IS NULL",
        "flags IS NULL",
    ],
)
def test_a_filter_after_the_crops_is_refused_before_anything_is_fetched(
    server: PhotoServer, tmp_path: Path, condition: str
) -> None:
    path = tmp_path / "own.fsql"
    path.write_text(filtered(condition))
    server.served.clear()
    images = rows(server, 1)
    given = jobs.images(images), jobs.claims(images, PROFILES), jobs.stores("s0"), jobs.job(tmp_path)
    with pytest.raises(EngineError, match="^the script loses [0-9]+ of 4 boxes, for example"):
        run_crop_job(*given, EngineSettings(script=str(path)))
    assert not server.served


def test_a_script_that_drops_what_only_the_real_rows_have_ends_the_batch(server: PhotoServer, tmp_path: Path) -> None:
    path = tmp_path / "own.fsql"
    path.write_text(filtered("reason IS NULL OR reason <> 'http_404'"))
    images = [*rows(server, 2), jobs.image(2, server.url("missing.jpg"), [jobs.box("a", 0, 0, 1, 1)])]
    given = jobs.images(images), jobs.claims(images, PROFILES), jobs.stores("s0"), jobs.job(tmp_path / "out")
    told = rf"^the script {path} loses 2 of 10 boxes, for example \('manifests/one.parquet', 2, 0, 'default'\)$"
    with pytest.raises(EngineError, match=told):
        run_crop_job(*given, EngineSettings(script=str(path)))


def test_a_missing_script_is_reported(server: PhotoServer, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"own\.fsql cannot be read: FileNotFoundError"):
        run(server, tmp_path, {"script": str(tmp_path / "own.fsql")})


def test_a_column_that_the_catalogue_cannot_store_is_refused_before_anything_is_fetched(
    server: PhotoServer, tmp_path: Path
) -> None:
    path = tmp_path / "own.fsql"
    server.served.clear()
    for column, told in (
        ("1 AS batch_id", "column batch_id: the catalogue has one of that name; rename it"),
        ("1 AS `A B`", "column 'A B': a name has letters, digits and _; rename it"),
        ("1 AS price", "column price is int32, but the catalogue has Price as double; rename it"),
    ):
        some = jobs.OWN.format(where="", end="").replace("crops =", "some =")
        path.write_text(some + f"crops = SELECT some.*, {column} FROM some YIELD DATAFRAME")
        with pytest.raises(EngineError, match=told):
            run(
                server,
                tmp_path / "out",
                {"script": str(path), "kind": "duckdb"},
                known=pa.schema([("Price", pa.float64())]),
            )
    assert not server.served

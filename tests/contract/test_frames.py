"""One suite for every kind of frame: the rows come back unchanged, with the pipeline's bytes, pixels and reasons."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

import cropline
from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings
from fugue_jobs.engines.run import run_crop_job
from tests.contract import jobs
from tests.photos import PhotoServer, drawn, encoded, photo_server, with_orientation

pytestmark = pytest.mark.timeout(600)

PROFILE = Profile(format="png", max_side=100)
BOXES = [(0.1, 0.2, 0.5, 0.6), (0.0, 0.0, 1.0, 1.0), (0.3, 0.3, 0.31, 0.32), (0.5, 0.2, 0.1, 0.6), (2.0, 2.0, 3.0, 3.0)]
NAMES = ("6.jpg", "1.jpg", "missing.jpg", "broken.jpg", "busy.jpg")
KINDS = (
    "pandas", "arrow", "duckdb", "parquet", "dask", "ray", "spark", "spark-connect", "pandas-on-spark",
    "pandas-on-dask", "pandas-on-ray",
)  # fmt: skip
# Values that every kind of frame can hold and must return.
OWN = {
    "when": [datetime(2026, 11, 22, 8, 40, tzinfo=UTC)],
    "price": [Decimal("1.50")],
    "nested": [{"label": "a", "many": [1, 2]}],
    " ": ["a column without a name"],
    "gap": [None],
}


@pytest.fixture(scope="module", autouse=True)
def loopback() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROPLINE_FETCH__ALLOW_LOOPBACK", "true")
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    with photo_server() as served:
        for orientation in (1, 6):
            served.photos[f"{orientation}.jpg"] = encoded(drawn(640, 480, seed=7), exif=with_orientation(orientation))
        served.photos["broken.jpg"] = b"\xff\xd8\xff" + bytes(500)
        served.photos["busy.jpg"] = 503
        yield served


def rows(server: PhotoServer) -> list[dict[str, Any]]:
    """Return one row per box; the rows of an image are not adjacent."""
    own = {name: values[0] for name, values in OWN.items()}
    return [
        {"number": len(NAMES) * turn + place, "ImgUrl": server.url(name)}
        | dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        | own
        for turn, box in enumerate(BOXES)
        for place, name in enumerate(NAMES)
    ] + [{"number": 25, "ImgUrl": None} | own, {"number": 26, "ImgUrl": "http://10.0.0.1/x", "xmin": 0.1} | own]


@pytest.fixture(scope="module")
def table(server: PhotoServer) -> pa.Table:
    return pa.Table.from_pylist(rows(server)).cast(
        pa.schema(
            [("number", pa.int64()), ("ImgUrl", pa.string())]
            + [(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")]
            + [("when", pa.timestamp("us", "UTC")), ("price", pa.decimal128(9, 2))]
            + [("nested", pa.struct([("label", pa.string()), ("many", pa.list_(pa.int64()))]))]
            + [(" ", pa.string()), ("gap", pa.int64())]
        )
    )


@pytest.fixture(scope="module")
def pipeline(server: PhotoServer, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the pipeline's crops of the same images and boxes, by image and box."""
    boxes = [jobs.box(str(place), *box) for place, box in enumerate(BOXES)]
    images = [jobs.image(place, server.url(name), boxes) for place, name in enumerate(NAMES)]
    job = jobs.job(tmp_path_factory.mktemp("pipeline"))
    claims = jobs.claims(images, {"p": PROFILE})
    crops = run_crop_job(jobs.images(images), claims, jobs.stores(), job, EngineSettings())
    return {(NAMES[row["manifest_row"]], row["box_index"]): row for row in crops.to_pylist()}


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    from pyspark.sql import SparkSession

    conf = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.sql.shuffle.partitions": "2"}
    builder = SparkSession.builder.master(EngineSettings().master)
    for name, value in conf.items():
        builder = builder.config(name, value)
    opened = builder.getOrCreate()
    yield opened
    opened.stop()


Run = tuple[pa.Table, dict[str, int], Any]


@pytest.fixture(scope="module", params=KINDS)
def run(
    request: pytest.FixtureRequest, table: pa.Table, server: PhotoServer, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Return the frame with its crops as an Arrow table, the requests per image, and the returned frame."""
    crop, as_arrow = _way(request, table, tmp_path_factory)
    server.served.clear()
    out = crop()
    return as_arrow(out), dict(server.served), out


def _way(
    request: pytest.FixtureRequest, table: pa.Table, folders: pytest.TempPathFactory
) -> tuple[Callable[[], Any], Callable[[Any], pa.Table]]:
    kind = request.param
    options: dict[str, Any] = {"profile": PROFILE}
    frame: Any = table
    as_arrow: Callable[[Any], pa.Table] = lambda out: pa.Table.from_pandas(out, preserve_index=False)  # noqa: E731
    if kind in ("pandas", "parquet", "pandas-on-spark", "pandas-on-dask", "pandas-on-ray"):
        frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    if kind == "pandas-on-spark":
        options["engine"] = request.getfixturevalue("session")
    if kind == "pandas-on-dask":
        options |= {"engine": _client(request), "partitions": 2}
    if kind.endswith("ray"):
        ray = _ray(request)
        options["partitions"] = 2
    if kind == "pandas-on-ray":
        options["engine"] = "ray"
    if kind == "ray":
        frame = ray.data.from_arrow([table.slice(0, 10), table.slice(10)])
        as_arrow = lambda out: pa.concat_tables(ray.get(out.to_arrow_refs()))  # noqa: E731
    if kind == "arrow":
        as_arrow = lambda out: out  # noqa: E731
    if kind == "duckdb":
        frame, as_arrow = duckdb.connect().from_arrow(table), lambda out: out.to_arrow_table()
    if kind == "parquet":
        path = folders.mktemp("frame") / "boxes.parquet"
        frame.to_parquet(path)
        frame = path
    if kind == "dask":
        import dask.dataframe

        frame = dask.dataframe.from_pandas(table.to_pandas(types_mapper=pd.ArrowDtype), npartitions=3)
        whole = as_arrow
        as_arrow = lambda out: whole(out.compute(scheduler="threads"))  # noqa: E731
    if kind.startswith("spark"):
        frame, as_arrow = _spark(request, kind).createDataFrame(table), lambda out: out.toArrow()
    return lambda: cropline.crop(frame, **options), as_arrow


def _client(request: pytest.FixtureRequest) -> Any:
    import distributed

    client = distributed.Client(request.getfixturevalue("dask_scheduler"), set_as_default=False)
    request.addfinalizer(client.close)
    return client


def _ray(request: pytest.FixtureRequest) -> Any:
    address = request.getfixturevalue("ray_address")
    import ray

    # A notebook that has joined a cluster: its workers have no cropline.
    ray.init(address=address, log_to_driver=False)
    request.addfinalizer(ray.shutdown)
    return ray


@pytest.fixture(scope="module")
def connect_session(spark_connect_url: str) -> Iterator[Any]:
    """One for all tests: the server starts Python workers for each."""
    from pyspark.sql.connect.session import SparkSession

    opened = SparkSession.builder.remote(spark_connect_url).create()
    yield opened
    opened.stop()


def _spark(request: pytest.FixtureRequest, kind: str) -> Any:
    return request.getfixturevalue("session" if kind == "spark" else "connect_session")


def by_number(table: pa.Table) -> pa.Table:
    return table.sort_by("number")


def test_every_column_comes_back_as_it_was(run: Run, table: pa.Table) -> None:
    out = by_number(run[0])
    assert out.column_names[: len(table.column_names)] == table.column_names
    for name in table.column_names:
        assert out[name].to_pylist() == table[name].to_pylist(), name


def test_bytes_pixels_and_reasons_are_the_pipelines(run: Run, pipeline: dict[tuple[str, int], dict[str, Any]]) -> None:
    told = (
        "status",
        "reason",
        "detail",
        "sha256",
        "bytes",
        "width",
        "height",
        "format",
        "left",
        "top",
        "right",
        "bottom",
    )
    out = by_number(run[0]).to_pylist()
    assert len(out) == 27
    for row in out[:25]:
        own = pipeline[NAMES[row["number"] % 5], row["number"] // 5]
        assert {name: row[f"crop_{name}"] for name in told} == {name: own[name] for name in told}
        found = None if row["crop_data"] is None else hashlib.sha256(row["crop_data"]).hexdigest()
        assert found == own["sha256"]
    assert [row["crop_reason"] for row in out[25:]] == ["bad_url", "forbidden_address"]


def test_each_image_is_fetched_once(run: Run) -> None:
    assert run[1] == dict.fromkeys(NAMES, 1)


def test_the_same_kind_of_frame_comes_back(run: Run, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["run"]
    modules = {
        "arrow": "pyarrow",
        "duckdb": ("duckdb", "_duckdb"),
        "dask": "dask",
        "ray": "ray",
        "spark": "pyspark",
        "spark-connect": "pyspark",
    }
    assert type(run[2]).__module__.startswith(modules.get(kind, "pandas"))


@pytest.fixture(scope="module", params=["spark", "spark-connect"])
def spark(request: pytest.FixtureRequest) -> Any:
    return _spark(request, request.param)


def test_a_line_of_fuguesql_on_spark_fetches_each_image_once(
    spark: Any, table: pa.Table, server: PhotoServer, pipeline: dict[tuple[str, int], dict[str, Any]]
) -> None:
    from fugue.sql.api import fugue_sql

    import fugue_jobs.frame.plugin  # noqa: F401 - what the entry point loads

    frame = spark.createDataFrame(table.select(["number", "ImgUrl", "xmin", "ymin", "xmax", "ymax"]))
    server.served.clear()
    sql = "TRANSFORM frame USING cropline_crop(profile={format: 'png', max_side: 100}, partitions=2)"
    out = fugue_sql(sql, frame=frame, engine=spark, as_fugue=True).native.toArrow().sort_by("number").to_pylist()
    assert dict(server.served) == dict.fromkeys(NAMES, 1)
    found = {(NAMES[row["number"] % 5], row["number"] // 5): row["crop_sha256"] for row in out[:25]}
    assert found == {place: row["sha256"] for place, row in pipeline.items()}


def test_a_notebooks_function_runs_on_every_crop_of_a_cluster(spark: Any, server: PhotoServer) -> None:
    def told(image: Any, row: dict[str, Any]) -> dict[str, Any]:
        return {"own": f"{row['sku']} {image.width}"}

    rows = [
        {"ImgUrl": server.url("1.jpg"), "sku": f"s{n}"}
        | dict(zip(("xmin", "ymin", "xmax", "ymax"), BOXES[0], strict=True))
        for n in range(3)
    ]
    options: dict[str, Any] = {"function": told, "extras": "own:string", "partitions": 2}
    out = cropline.crop(spark.createDataFrame(pa.Table.from_pylist(rows)), **options).toArrow()
    wanted = ["s0 256", "s1 256", "s2 256"]
    assert sorted(out["own"].to_pylist()) == wanted
    assert cropline.crop(pd.DataFrame(rows), engine=spark, **options)["own"].tolist() == wanted

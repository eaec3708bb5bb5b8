"""One suite for every engine: the same rows, bytes, failures and counts."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from pydantic import SecretStr

import cropline
from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings, FetchSettings
from cropline.core.schemas import CLAIM, CROPS
from cropline.core.store_spec import StoreSpec
from fugue_jobs.crop_images import CropJob
from fugue_jobs.engines.run import run_crop_job, stop_engines
from tests.contract import jobs
from tests.http_proxy import proxying
from tests.photos import PhotoServer, drawn, encoded, photo_server, with_orientation

# Servers of the session start within the first test that needs them.
pytestmark = pytest.mark.timeout(600)

PROFILES = {"png": Profile(format="png"), "small": Profile(max_side=64, quality=70)}
GOOD = [
    jobs.box("a", 0.1, 0.2, 0.5, 0.6),
    jobs.box("b", 0.0, 0.0, 1.0, 1.0),
    jobs.box("ü/../\u202e", 0.3, 0.3, 0.31, 0.32),
]
BAD = [
    jobs.box("nan", float("nan"), 0.2, 0.5, 0.6),
    jobs.box("null", None, 0.2, 0.5, 0.6),
    jobs.box("inf", 0.1, 0.2, float("inf"), 0.6),
    jobs.box("inverted", 0.5, 0.2, 0.1, 0.6),
    jobs.box(None, 0.5, 0.2, 0.6, 0.6),
]
BAD_REASONS = ["box_not_finite", "box_not_finite", "box_not_finite", "box_inverted", None]


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    with photo_server() as served:
        for orientation in (1, 6):
            picture = drawn(640, 480, seed=7)
            served.photos[f"{orientation}.jpg"] = encoded(picture, quality=92, exif=with_orientation(orientation))
        served.photos["broken.jpg"] = b"\xff\xd8\xff" + bytes(500)
        served.photos["page.html"] = b"<!doctype html><title>Sign in</title>"
        served.photos["busy.jpg"] = 503
        yield served


ENGINES = ("native", "duckdb", "spark", "spark-cluster", "spark-connect", "dask", "ray")
# What runs in workers is the same code on each engine, and a job on a cluster takes seconds. By default these tests
# run on few engines; make test-slow and make test-engines run them on the others too.
ON_FEW = {
    "test_no_stores_and_nothing_to_cut_are_batches_like_others": ("native", "duckdb", "spark-cluster", "spark-connect", "dask"),
    "test_photos_come_through_the_proxy_of_the_settings": ("native", "spark"),
    # The columns' test runs a script of the user on the others.
    "test_a_users_own_script_is_run": ("native", "duckdb"),
    "test_columns_of_steps_and_of_a_script_come_back_typed": ("native", "duckdb", "spark-cluster", "spark-connect", "dask"),
    "test_every_engine_packs_the_crops_of_the_native_one": ("native", "spark-cluster"),
    "test_packs_of_every_engine_are_read_by_their_own_formats_and_lie_in_their_batch": ("native", "spark-cluster"),
    "test_only_the_boxes_that_are_left_to_cut_are_cut": ("native", "spark-cluster"),
}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        few = ON_FEW.get(metafunc.function.__name__, ENGINES)
        # Ray runs only in make test-engines, which runs all of its tests.
        marks = {name: [] if name in (*few, "ray") else [pytest.mark.slow] for name in ENGINES}
        chosen = [pytest.param(name, marks=marks[name]) for name in ENGINES]
        metafunc.parametrize("engine", chosen, indirect=True, scope="module")


SHOP = """
import datetime


def read(image, row):
    if row["label"] == "label of null":
        raise ValueError
    return {
        "sku": "cola" if image.width > 100 else "tea",
        "score": image.width / 3,
        "embedding": [0.5, float(image.height)],
        "facings": image.width,
        "taken": datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        "days": [datetime.date(2026, 1, 2)],
        "own": b"\\x00\\xff",
    }
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A module of the user that only the machine that starts the job has."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shelf_shop.py").write_text(SHOP)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield "shelf_shop"


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest, shop: str) -> Iterator[EngineSettings]:
    settings: dict[str, Any] = {
        "kind": request.param.replace("-cluster", ""),
        "conf": {"spark.sql.shuffle.partitions": "2"},
        "partitions": 2,
        "ship": (shop,),  # for all tests: a cluster has one session for each such tuple
    }
    if request.param == "spark-cluster":
        cluster = request.getfixturevalue("spark_clusters").whole()
        spark = {"python": str(cluster.python), "max_executors": 2, "idle_s": 600}
        settings |= {"master": cluster.master, "spark": spark}
        settings["conf"] |= {"spark.ui.enabled": "false", "spark.executor.memory": "1g"}
    if request.param == "spark-connect":
        settings["connect"] = {"url": request.getfixturevalue("spark_connect_url")}
    if request.param == "dask":
        settings["dask"] = {"scheduler": request.getfixturevalue("dask_scheduler")}
    if request.param == "ray":
        settings["ray"] = {"address": request.getfixturevalue("ray_address")}
    yield EngineSettings.model_validate(settings)
    stop_engines()


def batch(server: PhotoServer) -> list[dict[str, Any]]:
    """Return image rows that together cover every outcome."""
    return [
        jobs.image(0, server.url("1.jpg?signature=canary"), GOOD, store_id="s1", bytes=len(server.photos["1.jpg"])),  # type: ignore[arg-type]
        jobs.image(1, server.url("6.jpg"), GOOD, store_id="unknown store", image_id="bild-ü"),
        jobs.image(2, server.url("missing.jpg"), GOOD[:2]),
        jobs.image(3, server.url("broken.jpg"), GOOD[:1]),
        jobs.image(4, server.url("page.html"), GOOD[:1]),
        jobs.image(5, server.url("busy.jpg"), GOOD[:1]),
        jobs.image(6, server.url("1.jpg"), BAD),
        jobs.image(7, server.url("1.jpg"), []),
        jobs.image(8, server.url("1.jpg"), None),
        jobs.image(9, "http://10.0.0.1/metadata", GOOD[:1]),
        jobs.image(10, server.url("never-claimed.jpg"), GOOD),
    ]


def job_on(engine: EngineSettings, folder: Path, **changes: Any) -> CropJob:
    """Return a job of two crop processes, or of one in each of a cluster's two parts."""
    return jobs.job(folder, processes=2 if engine.kind in ("native", "duckdb") else 1, **changes)


def run(server: PhotoServer, engine: EngineSettings, folder: Path) -> pa.Table:
    rows = batch(server)
    images = jobs.landed(StoreSpec(folder.as_uri()), rows)
    return run_crop_job(
        images, jobs.claims(rows[:-1], PROFILES), jobs.stores("s1", "s2"), job_on(engine, folder), engine
    )


@pytest.fixture(scope="module")
def native_run(server: PhotoServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, Path]:
    folder = tmp_path_factory.mktemp("native")
    return run(server, EngineSettings(), folder), folder


@pytest.fixture(scope="module")
def this_run(
    server: PhotoServer, engine: EngineSettings, native_run: object, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pa.Table, Path, dict[str, int]]:
    folder = tmp_path_factory.mktemp(engine.kind)
    server.served.clear()
    return run(server, engine, folder), folder, dict(server.served)


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (folder / "crops").rglob("*")
        if path.is_file()
    }


def test_every_engine_gives_the_rows_of_the_native_one(this_run: Any, native_run: Any) -> None:
    assert this_run[0].schema.equals(CROPS)
    assert this_run[0].to_pylist() == native_run[0].to_pylist()


def test_every_engine_writes_the_same_bytes_under_the_same_keys(this_run: Any, native_run: Any) -> None:
    written = {row["key"]: row["sha256"] for row in this_run[0].to_pylist() if row["status"] == "written"}
    assert files(this_run[1]) == files(native_run[1]) == written
    assert len(written) == 14


def test_each_box_gives_one_row(this_run: Any, server: PhotoServer) -> None:
    rows = this_run[0].to_pylist()
    counts = dict.fromkeys(range(11), 0)
    for row in rows:
        counts[row["manifest_row"]] += 1
    assert counts == {0: 6, 1: 6, 2: 4, 3: 2, 4: 2, 5: 2, 6: 10, 7: 0, 8: 0, 9: 2, 10: 0}
    assert len({(row["manifest_row"], row["box_index"], row["profile"]) for row in rows}) == len(rows)


def test_each_failure_has_its_reason(this_run: Any) -> None:
    reasons: dict[int, list[str | None]] = {}
    for row in this_run[0].to_pylist():
        if row["profile"] == "png":
            reasons.setdefault(row["manifest_row"], []).append(row["reason"])
            assert (row["status"] == "written") == (row["reason"] is None) == (row["key"] is not None)
    assert reasons == {
        0: [None] * 3,
        1: [None] * 3,
        2: ["http_404"] * 2,
        3: ["corrupt_picture"],
        4: ["not_a_picture"],
        5: ["http_5xx"],
        6: BAD_REASONS,
        9: ["forbidden_address"],
    }


def test_crops_are_those_of_the_plain_way(this_run: Any, server: PhotoServer) -> None:
    table, folder, _ = this_run
    seen = 0
    for row in table.to_pylist():
        if row["profile"] == "png" and row["status"] == "written":
            name = "6.jpg" if row["manifest_row"] == 1 else "1.jpg"
            photo = ImageOps.exif_transpose(Image.open(io.BytesIO(server.photos[name]))).convert("RGB")  # type: ignore[arg-type]
            assert (row["image_width"], row["image_height"]) == photo.size
            edges = [int(row["xmin"] * photo.width + 0.5), int(row["ymin"] * photo.height + 0.5)]
            edges += [int(row["xmax"] * photo.width + 0.5), int(row["ymax"] * photo.height + 0.5)]
            plain = photo.crop(tuple(edges))  # type: ignore[arg-type]
            with Image.open(folder / row["key"]) as crop:
                assert (crop.mode, crop.size, crop.tobytes()) == ("RGB", plain.size, plain.tobytes())
            seen += 1
    assert seen == 7


def test_each_photo_is_fetched_once(this_run: Any) -> None:
    assert this_run[2] == {"1.jpg": 2, "6.jpg": 1, "missing.jpg": 1, "broken.jpg": 1, "page.html": 1, "busy.jpg": 1}


def test_store_metadata_is_joined_where_it_is_known(this_run: Any) -> None:
    cities = {row["manifest_row"]: (row["store_name"], row["city"]) for row in this_run[0].to_pylist()}
    assert cities[0] == ("Store s1", "Bergen")
    assert cities[1] == cities[2] == (None, None)


def test_no_stores_and_nothing_to_cut_are_batches_like_others(
    engine: EngineSettings, server: PhotoServer, tmp_path: Path
) -> None:
    rows = batch(server)[7:9]  # without boxes: planned as one part
    given = jobs.images(rows), jobs.claims(rows, PROFILES), jobs.stores()
    planned = engine.model_copy(update={"partitions": 0})
    assert run_crop_job(*given, job_on(engine, tmp_path), planned).equals(CROPS.empty_table())


def test_photos_come_through_the_proxy_of_the_settings(
    engine: EngineSettings, server: PhotoServer, tmp_path: Path
) -> None:
    rows = [jobs.image(0, "http://93.184.216.34/1.jpg", GOOD)]
    with proxying({"93.184.216.34:80": server.port}) as proxy:
        job = jobs.job(tmp_path, fetch=FetchSettings(proxy=SecretStr(proxy.url)).options, processes=1)
        crops = run_crop_job(jobs.images(rows), jobs.claims(rows, PROFILES), jobs.stores(), job, engine)
    assert {row["status"] for row in crops.to_pylist()} == {"written"}
    assert proxy.asked == ["CONNECT 93.184.216.34:80"]


def test_a_users_own_script_is_run(engine: EngineSettings, server: PhotoServer, tmp_path: Path) -> None:
    rows = batch(server)[:3]
    path = tmp_path / "own.fsql"
    path.write_text(jobs.OWN.format(where="", end="YIELD DATAFRAME"))
    given = jobs.landed(StoreSpec((tmp_path / "out").as_uri()), rows), jobs.claims(rows, PROFILES), jobs.stores("s1")
    own = engine.model_copy(update={"script": str(path)})
    crops = run_crop_job(*given, job_on(engine, tmp_path / "out"), own)
    found = {(row["manifest_row"], row["city"], row["reason"]) for row in crops.to_pylist()}
    assert found == {(0, "BERGEN", None), (1, None, None), (2, None, "http_404")}


SKU_COLUMNS = {
    "sku": "string", "score": "double", "embedding": "list<float>", "facings": "int", "taken": "timestamp",
    "days": "list<date>", "own": "binary",
}  # fmt: skip
JOINED = """
found = TRANSFORM west COARSE PREPARTITION {{ partitions }} USING crop_images SCHEMA {{ crops_schema }}
crops = SELECT found.*, products.title, products.price FROM found LEFT JOIN products ON found.sku = products.sku
        YIELD DATAFRAME
"""


def test_columns_of_steps_and_of_a_script_come_back_typed(
    engine: EngineSettings, server: PhotoServer, shop: str, tmp_path: Path
) -> None:
    step = {"use": f"{shop}:read", "columns": SKU_COLUMNS}
    profiles = {"png": Profile(format="png"), "sku": Profile.model_validate({"format": "png", "steps": [step]})}
    rows = [batch(server)[0], batch(server)[6]]
    products = pa.table({"sku": ["cola", "tea"], "title": ["Cola 0.5 l", "Tea"], "price": [1.5, 2.0]})
    script = tmp_path / "own.fsql"
    script.write_text(jobs.OWN.format(where="", end="").rpartition("crops =")[0].replace("{{", "{") + JOINED)
    crops = run_crop_job(
        jobs.landed(StoreSpec((tmp_path / "out").as_uri()), rows),
        jobs.claims(rows, profiles),
        jobs.stores("s1"),
        job_on(engine, tmp_path / "out"),
        engine.model_copy(update={"script": str(script)}),
        frames={"products": products},
    )
    assert {field.name: str(field.type) for field in crops.schema if field.name not in CROPS.names} == {
        "sku": "string", "sku_score": "double", "embedding": "list<item: float>", "facings": "int32",
        "taken": "timestamp[us, tz=UTC]", "days": "list<item: date32[day]>", "own": "binary", "title": "string",
        "price": "double",
    }  # fmt: skip
    names = [name for name in crops.column_names if name not in CROPS.names]
    found = {(row["manifest_row"], row["box_index"], row["profile"]): row for row in crops.to_pylist()}
    assert len(found) == 16
    assert all(found[0, 0, "png"][name] is None for name in names), "another profile has no values"
    cola, tea = found[0, 1, "sku"], found[0, 2, "sku"]
    assert (cola["sku"], cola["title"], cola["price"], tea["title"]) == ("cola", "Cola 0.5 l", 1.5, "Tea")
    assert (cola["sku_score"], cola["score"], cola["facings"]) == (640 / 3, 0.5, 640)
    assert (cola["embedding"], cola["days"], cola["own"]) == ([0.5, 480.0], [date(2026, 1, 2)], b"\0\xff")
    assert cola["taken"] == datetime(2026, 1, 2, 2, 4, 5, 6, tzinfo=UTC)
    assert found[6, 0, "sku"]["reason"] == "box_not_finite"
    assert all(found[6, 0, "sku"][name] is None for name in names)


PACKED = (("png", "shards", 60_000), ("small", "parquet", 12_000))


@pytest.fixture(scope="module")
def packed_run(
    server: PhotoServer, engine: EngineSettings, native_run: object, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, Any]], StoreSpec]:
    """Run the same batch into packs that are full after a few crops."""
    folder = tmp_path_factory.mktemp(f"{engine.kind}-packed")
    spec, rows = StoreSpec(folder.as_uri()), batch(server)
    job = job_on(engine, folder, packed=PACKED, batch="b-1")
    images = jobs.landed(spec, rows)
    return run_crop_job(
        images, jobs.claims(rows[:-1], PROFILES), jobs.stores("s1", "s2"), job, engine
    ).to_pylist(), spec


def test_every_engine_packs_the_crops_of_the_native_one(packed_run: Any, native_run: Any) -> None:
    rows, spec = packed_run
    place = {"shard": None, "offset": None}
    assert [row | place for row in rows] == native_run[0].to_pylist(), "the output kind changes nothing else of a row"
    written = [row for row in rows if row["status"] == "written"]
    read = {row["key"]: hashlib.sha256(cropline.open_crop(row, spec).read()).hexdigest() for row in written}
    assert read == files(native_run[1])
    assert all((row["shard"] is None) == (row["key"] is None) for row in rows)


def test_packs_of_every_engine_are_read_by_their_own_formats_and_lie_in_their_batch(packed_run: Any) -> None:
    rows, spec = packed_run
    root = spec.local_path
    written = [row for row in rows if row["status"] == "written"]
    inside: dict[str, str] = {}
    for shard in {row["shard"] for row in written}:
        if shard.endswith(".tar"):
            with tarfile.open(root / shard) as tar:
                whole = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
            for name in (name for name in whole if name.endswith(".json")):
                facts = json.loads(whole[name])
                inside[facts["key"]] = hashlib.sha256(whole[name.removesuffix("json") + "png"]).hexdigest()
        else:
            for entry in pq.read_table(root / shard).to_pylist():
                inside[entry["key"]] = hashlib.sha256(entry["image"]["bytes"]).hexdigest()
    assert inside == {row["key"]: row["sha256"] for row in written}
    lying = {str(path.relative_to(root)) for path in (root / "shards").rglob("*") if path.is_file()}
    assert {name for name in lying if not name.endswith(".json")} == {row["shard"] for row in written}
    assert {Path(name).parent.name for name in lying} == {"b-1"}
    assert not (root / "crops").exists()


def test_rows_hold_the_announced_values_without_signatures(this_run: Any) -> None:
    row = this_run[0].to_pylist()[0]
    assert (row["label"], row["score"], row["xmin"]) == ("label of a", 0.5, 0.1)
    assert (row["left"], row["top"], row["right"], row["bottom"]) == (64, 96, 320, 288)
    assert row["captured_at"] == "2026-11-22T08:40:00.000000Z"
    assert "canary" not in str(this_run[0].to_pylist())


def test_progress_is_reported_after_each_image(server: PhotoServer, tmp_path: Path) -> None:
    rows, told = batch(server)[:3], []
    run_crop_job(
        jobs.images(rows), jobs.claims(rows, PROFILES), jobs.stores(), jobs.job(tmp_path), EngineSettings(), told.append
    )
    assert sorted(told) == [4, 6, 6]


def test_only_the_boxes_that_are_left_to_cut_are_cut(
    server: PhotoServer, engine: EngineSettings, tmp_path: Path
) -> None:
    rows = batch(server)[:2]
    claimed = jobs.claims(rows, PROFILES).to_pylist()
    left = [[[0, 2], None], [[], [1]]]
    for claim, wanted in zip(claimed, left, strict=True):
        for work, only in zip(claim["work"], wanted, strict=True):
            work["only"] = only
    images = jobs.landed(StoreSpec(tmp_path.as_uri()), rows)
    claims = pa.Table.from_pylist(claimed, schema=CLAIM)
    crops = run_crop_job(images, claims, jobs.stores("s1"), job_on(engine, tmp_path), engine)
    cut = sorted(zip(*(crops[name].to_pylist() for name in ("manifest_row", "profile", "box_index")), strict=True))
    assert cut == [(0, "png", 0), (0, "png", 2), (0, "small", 0), (0, "small", 1), (0, "small", 2), (1, "small", 1)]

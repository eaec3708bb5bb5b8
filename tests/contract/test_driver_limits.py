"""Drivers with little memory, and large tables: bounded pieces, or a line that names the setting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings
from cropline.core.errors import EngineError
from cropline.core.schemas import STORES
from fugue_jobs.engines.run import run_crop_job, stop_engines
from tests.contract import jobs
from tests.contract.spark_servers import connect_server
from tests.photos import PhotoServer, drawn, encoded, photo_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]

PROFILES = {"png": Profile(format="png")}


def many_stores(count: int) -> pa.Table:
    ids = pa.array([f"s{number}" for number in range(count)])
    names = pa.array([f"Store number {number}" for number in range(count)])
    constant = pa.array(["Bergen"] * count)
    values = {"store_id": ids, "store_name": names, "city": constant, "region": constant, "store_format": constant}
    return pa.table([values.get(field.name, pa.nulls(count, field.type)) for field in STORES], schema=STORES)


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    with photo_server() as served:
        served.photos["1.jpg"] = encoded(drawn(320, 240))
        yield served


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[dict[str, Any]]:
    """A Connect server whose driver has a heap of 512 MB."""
    with connect_server(tmp_path_factory.mktemp("connect"), worker_python, spark_driver_memory="512m") as url:
        yield {"kind": "spark-connect", "connect": {"url": url}, "partitions": 4}
        stop_engines()


def run(rows: list[dict[str, Any]], stores: pa.Table, folder: Path, engine: dict[str, Any]) -> pa.Table:
    given = jobs.images(rows), jobs.claims(rows, PROFILES), stores
    return run_crop_job(*given, jobs.job(folder, processes=1), EngineSettings.model_validate(engine))


def of_stores(server: PhotoServer) -> list[dict[str, Any]]:
    boxes = [jobs.box("a", 0.1, 0.2, 0.5, 0.6)]
    return [jobs.image(n, server.url("1.jpg"), boxes, store_id=f"s{n * 499_999}") for n in range(3)]


def test_a_million_stores_are_joined_on_a_small_connect_server(
    connect: dict[str, Any], server: PhotoServer, tmp_path: Path
) -> None:
    crops = run(of_stores(server), many_stores(1_000_000), tmp_path, connect).to_pylist()
    assert [(row["status"], row["store_name"]) for row in crops] == [
        ("written", "Store number 0"), ("written", "Store number 499999"), ("written", "Store number 999998"),
    ]  # fmt: skip


def test_a_table_that_is_too_large_for_a_connect_server_is_told_with_its_setting(
    connect: dict[str, Any], server: PhotoServer, tmp_path: Path
) -> None:
    script = tmp_path / "own.fsql"  # a script of the user gets all stores
    script.write_text(jobs.OWN.format(where="", end="YIELD DATAFRAME"))
    own = connect | {"script": str(script)}
    with pytest.raises(
        EngineError, match=r"the server's JVM ran out of memory: start it with a larger spark\.driver\.memory"
    ):
        run(of_stores(server), many_stores(1_000_000), tmp_path / "out", own)
    # The server lives on.
    crops = run(of_stores(server), many_stores(10), tmp_path / "out", connect)
    assert crops["status"].to_pylist() == ["written"] * 3


def test_two_million_rows_come_back_through_a_small_connect_server(connect: dict[str, Any], tmp_path: Path) -> None:
    boxes = [jobs.box(f"box {n}", 0.1, 0.2, 0.5, 0.6) for n in range(1_000)]
    rows = [jobs.image(n, f"http://10.0.0.1/{n}.jpg", boxes) for n in range(2_000)]
    crops = run(rows, jobs.stores(), tmp_path, connect)
    assert crops.num_rows == 2_000_000
    assert crops["reason"].unique().to_pylist() == ["forbidden_address"]

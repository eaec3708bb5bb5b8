"""EMR Serverless by boto3: run by spark-submit from the stored script, cancelled with the flow. Never AWS itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pyarrow as pa
import pytest

from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings, FetchSettings
from cropline.core.errors import EngineError
from cropline.core.store_spec import StoreSpec
from cropline.pipeline.funnel import EngineUse
from fugue_jobs.engines import emr
from fugue_jobs.engines.run import run_crop_job
from tests.contract import jobs
from tests.contract.spark_servers import python_without_cropline
from tests.emulators.s3 import s3_server
from tests.integration.emr_server import APPLICATION, ROLE, emr_server
from tests.photos import PhotoServer, drawn, encoded, photo_server

PROFILES = {"png": Profile(format="png"), "small": Profile(max_side=64), "tar": Profile(output="shards")}
PACKED = (("tar", "shards", 10_000_000),)
LIMIT_S = 120


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """S3 and EMR Serverless as moto provides them."""
    with s3_server() as url:
        yield url


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", moto)
    return boto3.client("s3", endpoint_url=moto)


@pytest.fixture
def store(s3: Any, moto: str) -> StoreSpec:
    bucket = f"emr-{uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    return StoreSpec(f"s3://{bucket}/cropline", moto, "us-east-1")


@pytest.fixture(scope="module")
def photos() -> Iterator[PhotoServer]:
    with photo_server() as served:
        served.photos["1.jpg"] = encoded(drawn(160, 120))
        yield served


def keys(s3: Any, store: StoreSpec, folder: str) -> list[str]:
    bucket = store.url.removeprefix("s3://").split("/")[0]
    found = s3.list_objects_v2(Bucket=bucket, Prefix=f"cropline/{folder}/")
    return [entry["Key"].removeprefix("cropline/") for entry in found.get("Contents", [])]


def settings(**more: Any) -> EngineSettings:
    emr = {"application_id": APPLICATION, "role_arn": ROLE, "poll_s": 0.2} | more.pop("emr", {})
    return EngineSettings.model_validate({"kind": "emr-serverless", "partitions": 2, "emr": emr} | more)


def run(photos: PhotoServer, store: StoreSpec, engine: EngineSettings, **more: Any) -> pa.Table:
    boxes = [jobs.box("a", 0.1, 0.2, 0.5, 0.6), jobs.box("b", 0.5, 0.2, 0.1, 0.6)]
    rows = [jobs.image(i, photos.url(f"{1 + i // 3}.jpg"), boxes, store_id=f"s{i}") for i in range(4)]
    fetch = more.pop("fetch", FetchSettings(allow_loopback=True).options)
    given = jobs.landed(store, rows), jobs.claims(rows, PROFILES), jobs.stores("s0", "s1")
    job = jobs.job(store, fetch=fetch, processes=1, packed=PACKED, batch="batch 1")
    return run_crop_job(*given, job, engine, **more)


def without_shards(crops: pa.Table) -> list[dict[str, Any]]:
    """Return the rows without their place in packs; the number of packs depends on the parts."""
    return crops.drop_columns(["shard", "offset"]).to_pylist()


def test_its_crops_and_failures_are_those_of_the_native_engine(
    photos: PhotoServer, s3: Any, store: StoreSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = python_without_cropline(tmp_path / "venv")
    used: list[EngineUse] = []
    with emr_server(tmp_path, s3, python=python) as emr:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", emr.url)
        try:
            crops = run(photos, store, settings(), on_engine=used.append)
        except EngineError:
            print(emr.log()[-4000:])
            raise
    native = run(photos, StoreSpec((tmp_path / "native").as_uri()), EngineSettings())
    assert without_shards(crops) == without_shards(native)
    assert {(row["status"], row["reason"]) for row in crops.to_pylist()} == {
        ("written", None),
        ("failed", "box_inverted"),
        ("failed", "http_404"),
    }
    rows = [row for row in crops.to_pylist() if row["status"] == "written"]
    assert sorted(keys(s3, store, "crops")) == sorted(row["key"] for row in rows if row["profile"] != "tar")
    shards = {row["shard"] for row in rows if row["profile"] == "tar"}
    assert shards == {key for key in keys(s3, store, "shards") if key.endswith(".tar")} != set()
    bucket = store.url.removeprefix("s3://").split("/")[0]
    stored = next(row["key"] for row in rows if row["profile"] != "tar")
    assert s3.head_object(Bucket=bucket, Key=f"cropline/{stored}")["Metadata"]["batch"] == "batch%201"
    assert keys(s3, store, "jobs") == [], "nothing of the job run is left"
    assert [(use.kind, use.partitions) for use in used] == [("emr-serverless", 2)]


SHOP = """
def read(image, row):
    return {"sku": "cola" if image.width > 20 else "tea"}
"""
JOINED = """
found = TRANSFORM west COARSE PREPARTITION {{ partitions }} USING crop_images SCHEMA {{ crops_schema }}
crops = SELECT found.*, products.title FROM found LEFT JOIN products ON found.sku = products.sku YIELD DATAFRAME
"""


@pytest.mark.slow
def test_frames_and_modules_of_the_user_travel_with_the_job_run(
    photos: PhotoServer, s3: Any, store: StoreSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = python_without_cropline(tmp_path / "venv")
    (tmp_path / "emr_shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))
    script = tmp_path / "own.fsql"
    script.write_text(jobs.OWN.format(where="", end="").rpartition("crops =")[0].replace("{{", "{") + JOINED)
    step = {"use": "emr_shop:read", "columns": {"sku": "string"}}
    profiles = {"sku": Profile.model_validate({"format": "png", "steps": [step]})}
    rows = [jobs.image(0, photos.url("1.jpg"), [jobs.box("a", 0.1, 0.2, 0.5, 0.6), jobs.box("b", 0, 0, 0.05, 0.1)])]
    given = jobs.landed(store, rows), jobs.claims(rows, profiles), jobs.stores()
    products = pa.table({"sku": ["cola", "tea"], "title": ["Cola 0.5 l", "Tea"]})
    engine = settings(script=str(script), ship=("emr_shop",))
    with emr_server(tmp_path, s3, python=python) as emr:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", emr.url)
        try:
            crops = run_crop_job(*given, jobs.job(store, processes=1), engine, frames={"products": products})
        except EngineError:
            print(emr.log()[-4000:])
            raise
    assert [(row["sku"], row["title"]) for row in crops.to_pylist()] == [("cola", "Cola 0.5 l"), ("tea", "Tea")]
    assert keys(s3, store, "jobs") == [], "nothing of the job run is left"


def test_a_module_that_cannot_travel_is_refused_before_anything_is_stored(
    photos: PhotoServer, s3: Any, store: StoreSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with emr_server(tmp_path, s3) as emr:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", emr.url)
        with pytest.raises(EngineError, match="^CROPLINE_ENGINE__SHIP: no module emr_nowhere is found here"):
            run(photos, store, settings(ship=("emr_nowhere",)))
    assert emr.started == []
    assert keys(s3, store, "jobs") == []


def test_moto_accepts_the_job_run_request(photos: PhotoServer, s3: Any, store: StoreSpec) -> None:
    client = boto3.client("emr-serverless")
    application = client.create_application(name="crops", releaseLabel="emr-7.5.0", type="SPARK")["applicationId"]
    environment = "s3://wheels/environment.tar.gz"
    engine = settings(
        emr={"application_id": application, "environment": environment}, conf={"spark.speculation": "false"}
    )
    # moto reports SUCCESS at once and runs nothing.
    with pytest.raises(EngineError, match="succeeded and left no crops"):
        run(photos, store, engine)
    (listed,) = client.list_job_runs(applicationId=application)["jobRuns"]
    found = client.get_job_run(applicationId=application, jobRunId=listed["id"])["jobRun"]
    submit = found["jobDriver"]["sparkSubmit"]
    assert submit["entryPoint"].startswith(f"{store.url}/jobs/")
    assert submit["entryPointArguments"][:3] == [store.url, store.endpoint, "us-east-1"]
    properties = found["configurationOverrides"]["applicationConfiguration"][0]["properties"]
    assert properties["spark.archives"] == f"{environment}#environment"
    assert properties["spark.speculation"] == "false", "the user's conf wins"
    assert properties["spark.dynamicAllocation.enabled"] == "true"
    assert found["executionRole"] == ROLE
    assert "canary" not in str(found)
    assert keys(s3, store, "jobs") == []


def test_a_missing_application_is_reported(photos: PhotoServer, s3: Any, store: StoreSpec) -> None:
    with pytest.raises(EngineError, match="EMR Serverless: ResourceNotFoundException: .*00nowhere"):
        run(photos, store, settings(emr={"application_id": "00nowhere"}))
    assert keys(s3, store, "jobs") == []


def test_a_job_run_that_fails_says_what_aws_says_without_secrets(
    photos: PhotoServer, s3: Any, store: StoreSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    details = "Job failed, see https://logs.example/driver?X-Amz-Signature=canary"
    with emr_server(tmp_path, s3, state="FAILED", details=details) as emr:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", emr.url)
        with pytest.raises(
            EngineError, match="job run run1 ended FAILED: Job failed, see https://logs.example/driver"
        ) as told:
            run(photos, store, settings())
    assert "canary" not in str(told.value)


def test_a_token_or_a_local_storage_is_refused_before_anything_is_asked(
    photos: PhotoServer, s3: Any, store: StoreSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with emr_server(tmp_path, s3) as emr:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", emr.url)
        for secret in ({"token": "canary", "token_host": "cdn.example.com"}, {"proxy": "http://me:canary@proxy:3128"}):
            with pytest.raises(EngineError, match="cannot use CROPLINE_FETCH__TOKEN"):
                run(photos, store, settings(), fetch=FetchSettings.model_validate(secret).options)
        with pytest.raises(EngineError, match="needs a storage that AWS reaches"):
            run(photos, StoreSpec((tmp_path / "out").as_uri()), settings())
    assert emr.started == []
    assert keys(s3, store, "jobs") == []


def test_a_jobs_file_holds_the_settings_of_downloads_as_they_are() -> None:
    given = {
        "allowed_hosts": ("cdn.example",), "private_networks": ("10.20.0.0/16",), "proxy": "http://proxy:3128",
        "allowed_buckets": ("s3://shop/in",), "bucket_endpoints": {"s3": "http://minio:9000"},
        "local_roots": ("/photos",), "max_bytes": 7, "connections_per_host": 3,
    }  # fmt: skip
    options = FetchSettings.model_validate(given).options
    told = json.loads(json.dumps(emr._fetch(options)))
    assert FetchSettings.model_validate(told).options == options


CANCELLED = """
    import signal
    from cropline.core.store_spec import StoreSpec
    from tests.integration.test_emr_serverless import run, settings
    from tests.photos import PhotoServer, photo_server

    class Cancelled(BaseException):
        pass

    def stop(*_):
        raise Cancelled  # as Prefect's engine does on SIGTERM

    signal.signal(signal.SIGTERM, stop)
    with photo_server() as photos:
        try:
            run(photos, StoreSpec({url!r}, {endpoint!r}, "us-east-1"), settings())
        except Cancelled:
            print("cancelled", flush=True)
"""


def test_cancelling_cancels_the_job_run(
    s3: Any, store: StoreSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with emr_server(tmp_path, s3) as emr:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", emr.url)
        code = textwrap.dedent(CANCELLED.format(url=store.url, endpoint=store.endpoint))
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ.copy())
        try:
            assert emr.asked.wait(LIMIT_S), "the job run was started and is watched"
            child.send_signal(signal.SIGTERM)
            assert emr.cancelled.wait(10)
            told, _ = child.communicate(timeout=LIMIT_S)
        finally:
            child.kill()
            child.wait()
    assert told == "cancelled\n"
    assert keys(s3, store, "jobs") == []


def test_boto3_is_imported_only_when_needed() -> None:
    code = "import sys, fugue_jobs.engines.emr, fugue_jobs.engines.run, fugue_jobs.engines.spark; print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

"""The driver of the job on EMR Serverless: reads the files of emr.py, runs the crop job on Spark, writes the crops.

It runs from the uploaded zip.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from cropline.config.pictures import PictureLimits
from cropline.config.settings import EngineSettings, FetchSettings, mistakes
from cropline.core import storage
from cropline.core.crop_options import FetchOptions
from cropline.core.errors import CroplineError, SettingsError
from cropline.core.store_spec import StoreSpec
from fugue_jobs.crop_images import CropJob
from fugue_jobs.engines.emr import USE
from fugue_jobs.engines.manifests import ManifestRows
from fugue_jobs.engines.run import run_crop_job, stop_engines

if TYPE_CHECKING:
    from cropline.pipeline.funnel import EngineUse


def main() -> None:
    """Run ``main.py URL ENDPOINT REGION PREFIX``. A dash is an unset value."""
    url, endpoint, region, prefix = (None if text == "-" else text for text in sys.argv[1:5])
    store = StoreSpec(str(url), endpoint, region)
    try:
        _run(store, f"{prefix}/")
    except CroplineError as error:
        storage.write(store, f"{prefix}/error.json", json.dumps({"error": str(error)}).encode())
        raise
    finally:
        stop_engines()


def _run(store: StoreSpec, home: str) -> None:
    present = storage.list_keys(store, home.rstrip("/"))
    parameters = json.loads(storage.read(store, f"{home}job.json"))
    claimed = _table(store, f"{home}claimed.parquet")
    load_rows = f"{home}images.parquet" in present
    used: list[EngineUse] = []
    crops = run_crop_job(
        _table(store, f"{home}images.parquet") if load_rows else ManifestRows.of(store, claimed),
        claimed,
        _table(store, f"{home}stores.parquet"),
        _job(store, parameters),
        _engine(parameters, _script(store, f"{home}own.fsql") if f"{home}own.fsql" in present else None),
        on_engine=used.append,
        frames={
            key.rpartition("/")[2].removesuffix(".parquet"): _table(store, key) for key in present if "/frames/" in key
        },
    )
    use = json.dumps({"partitions": used[0].partitions, "executors": used[0].executors})
    sink = io.BytesIO()
    pq.write_table(crops.replace_schema_metadata({USE: use}), sink, compression="zstd")
    storage.write(store, f"{home}crops.parquet", sink.getvalue())


def _table(store: StoreSpec, key: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(storage.read(store, key)))


def _script(store: StoreSpec, key: str) -> str:
    path = Path(tempfile.mkdtemp()) / "own.fsql"
    path.write_bytes(storage.read(store, key))
    return str(path)


def _job(store: StoreSpec, parameters: dict[str, Any]) -> CropJob:
    pictures = PictureLimits.model_validate(parameters["pictures"])
    packed = tuple((profile, kind, full) for profile, kind, full in parameters["packed"])
    return CropJob(store, _fetch(parameters), pictures.options, parameters["processes"], packed, parameters["batch"])


def _fetch(parameters: dict[str, Any]) -> FetchOptions:
    try:
        return FetchSettings.model_validate(parameters["fetch"]).options
    except ValidationError as error:
        # They were valid where they were set. A file that they name may be missing on this machine.
        raise SettingsError(mistakes(error, "fetch")) from None


def _engine(parameters: dict[str, Any], script: str | None) -> EngineSettings:
    """Return settings for Spark on the running application, which knows its master."""
    from pyspark import SparkContext

    settings = EngineSettings.model_validate(parameters["engine"] | {"kind": "spark", "script": script})
    return settings.model_copy(update={"master": SparkContext.getOrCreate().master})

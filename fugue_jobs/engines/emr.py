"""Runs the crop job of a batch as an EMR Serverless job run: uploads it, starts it, watches it, collects its crops.

    <storage>/jobs/<id>/cropline-code.zip, main.py, job.json, claimed.parquet, stores.parquet
                        [, shipped.zip, images.parquet, own.fsql, frames/<name>.parquet]
                        crops.parquet or error.json       written by the job run (emr_job.py)

The folder is removed when the job run has ended. It holds no secrets: image rows, which may hold
signed URLs, stay in their manifests. The only AWS package it needs is boto3.
"""

from __future__ import annotations

import io
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from cropline.core import storage
from cropline.core.errors import EngineError, StorageError
from cropline.core.scrub import one_line
from fugue_jobs.engines.manifests import ManifestRows
from fugue_jobs.engines.plan import most_executors
from fugue_jobs.engines.shipping import zips
from fugue_jobs.engines.spark import DEFAULTS, autoscaled

if TYPE_CHECKING:
    from cropline.config.engine import EmrSettings
    from cropline.config.settings import EngineSettings
    from cropline.core.crop_options import FetchOptions
    from cropline.core.store_spec import StoreSpec
    from fugue_jobs.crop_images import CropJob
    from fugue_jobs.engines.manifests import Images
    from fugue_jobs.engines.plan import Cost

log = logging.getLogger(__name__)

MAIN = "from fugue_jobs.engines.emr_job import main\n\nmain()\n"
USE = b"cropline.engine_use"  # metadata of crops.parquet: JSON of partitions and executors
_ZIPS = ("cropline-code.zip", "shipped.zip")
_RUNNING = frozenset(["SUBMITTED", "PENDING", "SCHEDULED", "QUEUED", "RUNNING", "CANCELLING"])


@dataclass(frozen=True)
class Done:
    """The result of a job run."""

    crops: pa.Table
    partitions: int
    executors: tuple[tuple[float, float], ...]


def dispatch(
    images: Images,
    claimed: pa.Table,
    stores: pa.Table,
    job: CropJob,
    settings: EngineSettings,
    cost: Cost,
    waiting: int,
    check: Callable[[], None],
    frames: Mapping[str, pa.Table],
) -> Done:
    """Run the job there and wait for it. Any exception while waiting, including a signal's, cancels the job run.

    ``check`` is called at each status request to AWS; an exception from it ends the wait.

    Raise EngineError: the storage is not S3, a secret would have to be stored, AWS refuses, the job run fails.
    """
    _check(job)
    home = _Home(job.store, f"jobs/{uuid.uuid4().hex}")
    client = _client(settings.emr, job.store)
    try:
        home.fill(_files(images, claimed, stores, job, settings, frames))
        begun = _start(client, home, settings, most_executors(cost, waiting, settings.spark))
        home.wait(client, begun, settings.emr, check)
        return home.done()
    finally:
        home.clear()


def _check(job: CropJob) -> None:
    if job.store.scheme != "s3":
        raise EngineError(f"emr-serverless needs a storage that AWS reaches, s3://bucket/prefix, not {job.store.url}")
    fetch = job.fetch
    if fetch.auth.token or fetch.auth.kind or (fetch.proxy and fetch.proxy.user):
        raise EngineError(
            "emr-serverless cannot use CROPLINE_FETCH__TOKEN, CROPLINE_FETCH__AUTH or a proxy's password: a job's files are "
            "readable by everyone who may see the application; use signed URLs or another engine"
        )


def _files(
    images: Images,
    claimed: pa.Table,
    stores: pa.Table,
    job: CropJob,
    settings: EngineSettings,
    frames: Mapping[str, pa.Table],
) -> dict[str, bytes]:
    told = {
        "fetch": _fetch(job.fetch),
        "pictures": asdict(job.pictures),
        "processes": job.processes,
        "packed": job.packed,
        "batch": job.batch,
        "engine": {"partitions": settings.partitions, "spark": {"grant_timeout_s": settings.spark.grant_timeout_s}},
    }
    files = {
        **{name: path.read_bytes() for name, path in zip(_ZIPS, zips(settings.ship), strict=False)},
        "main.py": MAIN.encode(),
        "job.json": json.dumps(told).encode(),
        "claimed.parquet": _parquet(claimed),
        "stores.parquet": _parquet(stores),
        **{f"frames/{name}.parquet": _parquet(frame) for name, frame in frames.items()},
    }
    if settings.script is not None:
        files["own.fsql"] = _script(settings.script)
    if not isinstance(images, ManifestRows):
        files["images.parquet"] = _parquet(images)
    return files


def _fetch(options: FetchOptions) -> dict[str, Any]:
    """Return the settings that emr_job.py reads again. None is a secret: see _check."""
    proxy = {"proxy": options.proxy.url if options.proxy else ""}
    paths = {"ca_file": options.ca_file and str(options.ca_file), "local_roots": [*map(str, options.local_roots)]}
    return {name: value for name, value in asdict(options).items() if name != "auth"} | proxy | paths


def _script(path: str) -> bytes:
    from fugue_jobs.engines.script import read_script

    return read_script(path).encode()


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


class _Home:
    """The folder of one job run in the storage."""

    def __init__(self, store: StoreSpec, prefix: str) -> None:
        self.store, self.prefix = store, prefix

    def uri(self, name: str) -> str:
        return self.store.uri(f"{self.prefix}/{name}")

    def fill(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            storage.write(self.store, f"{self.prefix}/{name}", data)

    def wait(self, client: Any, started: tuple[str, str], settings: EmrSettings, check: Callable[[], None]) -> None:
        application, run = started
        log.info("EMR Serverless job run %s of application %s", run, application)
        try:
            while True:
                found = _ask(client.get_job_run, applicationId=application, jobRunId=run)["jobRun"]
                if found["state"] not in _RUNNING:
                    break
                check()
                time.sleep(settings.poll_s)
        except BaseException:
            _cancel(client, application, run)
            raise
        if found["state"] != "SUCCESS":
            raise EngineError(f"EMR Serverless job run {run} ended {found['state']}: {self._why(found)}")

    def _why(self, found: dict[str, Any]) -> str:
        key = f"{self.prefix}/error.json"
        if storage.exists(self.store, key):
            return str(json.loads(storage.read(self.store, key))["error"])
        return one_line(found.get("stateDetails") or "AWS says nothing more; see the job run's driver log")

    def done(self) -> Done:
        try:
            data = storage.read(self.store, f"{self.prefix}/crops.parquet")
        except StorageError as error:
            raise EngineError(f"the EMR Serverless job run succeeded and left no crops: {error}") from error
        crops = pq.read_table(pa.BufferReader(data))
        use = json.loads(crops.schema.metadata[USE])
        return Done(crops, use["partitions"], tuple((came, went) for came, went in use["executors"]))

    def clear(self) -> None:
        try:
            storage.delete(self.store, storage.list_keys(self.store, self.prefix))
        except StorageError as error:
            log.warning("%s was not deleted: %s", self.uri(""), error)  # the batch's result matters more than this


def _client(settings: EmrSettings, store: StoreSpec) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    limits = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})
    try:
        return boto3.client("emr-serverless", region_name=settings.region or store.region, config=limits)
    except BotoCoreError as error:
        raise EngineError(f"EMR Serverless: {one_line(str(error))}") from error


def _ask(call: Any, **arguments: Any) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call(**arguments)
    except ClientError as error:
        told = error.response["Error"]
        raise EngineError(f"EMR Serverless: {told['Code']}: {one_line(told['Message'])}") from error
    except BotoCoreError as error:
        raise EngineError(f"EMR Serverless: {one_line(str(error))}") from error


def _start(client: Any, home: _Home, settings: EngineSettings, executors: int) -> tuple[str, str]:
    emr, id_ = settings.emr, Path(home.prefix).name
    begun = _ask(
        client.start_job_run,
        applicationId=emr.application_id,
        clientToken=id_,
        executionRoleArn=emr.role_arn,
        name=f"cropline-{id_[:12]}",
        executionTimeoutMinutes=emr.timeout_minutes,
        jobDriver={
            "sparkSubmit": {
                "entryPoint": home.uri("main.py"),
                # EMR refuses empty arguments: a dash is an unset value.
                "entryPointArguments": [
                    home.store.url,
                    home.store.endpoint or "-",
                    home.store.region or "-",
                    home.prefix,
                ],
            }
        },
        configurationOverrides={
            "applicationConfiguration": [
                {"classification": "spark-defaults", "properties": _properties(home, settings, executors)}
            ]
        },
    )
    return begun["applicationId"], begun["jobRunId"]


def _properties(home: _Home, settings: EngineSettings, executors: int) -> dict[str, str]:
    """Return Spark's settings for the job run. The user's ``conf`` wins."""
    chosen = (
        DEFAULTS
        | autoscaled(settings.spark, executors)
        | {"spark.submit.pyFiles": ",".join(map(home.uri, _ZIPS if settings.ship else _ZIPS[:1]))}
    )
    if settings.emr.environment:
        python = "./environment/bin/python"
        chosen |= {
            "spark.archives": f"{settings.emr.environment}#environment",
            "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": python,
            "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": python,
            "spark.executorEnv.PYSPARK_PYTHON": python,
        }
    return chosen | settings.conf


def _cancel(client: Any, application: str, run: str) -> None:
    try:
        _ask(client.cancel_job_run, applicationId=application, jobRunId=run)
    except EngineError as error:
        # Report the error that ended the wait. Later writes of the job run are harmless.
        log.warning("EMR Serverless job run %s could not be cancelled, it ends by itself: %s", run, error)

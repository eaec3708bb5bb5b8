"""Settings of engines: a frozen group for each."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from cropline.config.group import Group


class SparkSettings(Group):
    """A Spark cluster that scales. ``local`` masters and Connect servers use only some of these settings."""

    python: str = Field("", description="the workers' Python; empty is the path of this one")
    autoscale: bool = Field(True, description="add executors when there is work, release idle ones; clusters only")
    min_executors: int = Field(0, ge=0, le=10_000, description="executors that are kept even when idle")
    max_executors: int = Field(0, ge=0, le=10_000, description="0 chooses from the backlog")
    executor_cores: int = Field(1, ge=1, le=256, description="a core is one crop process")
    idle_s: int = Field(60, ge=1, description="an executor is released after this time without work")
    catch_up_s: int = Field(
        300, ge=1, description="max_executors 0: enough executors to finish the backlog in about this time"
    )
    connect_timeout_s: float = Field(
        5, gt=0, le=3_600, description="time limit for the master or Connect server to answer"
    )
    grant_timeout_s: int = Field(
        600,
        ge=1,
        description="time limit for a cluster to give a batch an executor; then the batch is released with an error",
    )


class ConnectSettings(Group):
    """A Spark Connect server, Databricks' included."""

    url: str = Field("", description="sc://host[:port][/;name=value...], without a token")
    token: SecretStr = Field(
        SecretStr(""), description="bearer token; it is sent over TLS only, except to this machine"
    )
    stall_timeout_s: int = Field(
        1_200, ge=1, description="time limit in which no task of a batch begins or ends; then the batch is released"
    )

    @field_validator("url")
    @classmethod
    def _is_connect(cls, value: str) -> str:
        if not value:
            return value
        if not re.fullmatch(r"sc://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/(;[^;=\s]+=[^;\s]*)*)?", value):
            raise ValueError("must be sc://host[:port][/;name=value...]")
        if ";token=" in value.lower():
            raise ValueError("must not hold a token: set CROPLINE_ENGINE__CONNECT__TOKEN")
        return value


class EmrSettings(Group):
    """An EMR Serverless application on AWS. Credentials come from boto3's chain."""

    application_id: str = Field("", pattern=r"^[0-9a-z]{0,64}$", description="of a Spark application")
    role_arn: str = Field("", description="the job's execution role: it reads and writes CROPLINE_STORAGE__URL")
    region: str | None = Field(None, description="empty is the storage's region, else boto3's")
    environment: str = Field(
        "",
        description="s3:// address of a packed Python environment with the wheels; empty: the application's image has it",
    )
    timeout_minutes: int = Field(60, ge=5, le=1_000_000, description="AWS ends a job that runs longer")
    poll_s: float = Field(5, gt=0, le=3_600, description="time between two requests for the job's status")

    @field_validator("role_arn")
    @classmethod
    def _is_role(cls, value: str) -> str:
        if value and not re.fullmatch(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/\S{1,512}", value):
            raise ValueError("must be arn:aws:iam::ACCOUNT:role/NAME")
        return value

    @field_validator("environment")
    @classmethod
    def _is_archive(cls, value: str) -> str:
        if value and not re.fullmatch(r"s3://[a-z0-9.-]{3,63}/[^\s#?,]+\.(tar\.gz|tgz|zip)", value):
            raise ValueError("must be s3://bucket/name.tar.gz")
        return value


class DaskSettings(Group):
    """A Dask cluster."""

    scheduler: str = Field("", description="tcp://host:port; empty starts one on this machine")
    connect_timeout_s: float = Field(5, gt=0, le=3_600, description="time limit for the scheduler to answer")
    grant_timeout_s: int = Field(600, ge=1, description="time limit for a cluster without workers to get one")

    @field_validator("scheduler")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", value):
            raise ValueError("must be tcp://host:port or tls://host:port")
        return value


class RaySettings(Group):
    """A Ray cluster."""

    address: str = Field("", description="host:port or ray://host:port; empty starts one on this machine")
    connect_timeout_s: float = Field(5, gt=0, le=3_600, description="time limit for the cluster to answer")
    grant_timeout_s: int = Field(600, ge=1, description="time limit for a cluster without workers to get one")

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"(ray://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", value):
            raise ValueError("must be host:port or ray://host:port")
        return value


class AutoSettings(Group):
    """kind=auto: a backlog above either number goes to the engine ``burst``; a smaller one is cut in process."""

    # Measured: docs/decisions/0007-engines.md.
    images: int = Field(4_500, ge=1, description="pending images")
    boxes: int = Field(165_000, ge=1, description="boxes of the batch, times profiles")
    burst: Literal["spark", "spark-connect", "emr-serverless", "dask", "ray"] = Field(
        "spark", description="the engine of a burst"
    )


EngineKind = Literal["native", "duckdb", "spark", "spark-connect", "emr-serverless", "dask", "ray", "auto"]
_MASTER = re.compile(
    r"local(\[(\*|[1-9][0-9]*)(,[0-9]+)?\])?|local-cluster\[[0-9]+,[0-9]+,[0-9]+\]|yarn|k8s://\S+"
    r"|spark://[^\s:/,]+:[0-9]{1,5}(,[^\s:/,]+:[0-9]{1,5})*"
)


# What a script gets without frames of the user: frames, and names that it uses itself.
_OF_THE_JOB = {"images", "claimed", "stores", "crops", "crop_images", "crops_schema", "partitions"}


# Spark reports a wrong value of these late, or without their name.
_SPARK_COUNTS = frozenset(
    {
        "spark.sql.shuffle.partitions",
        "spark.sql.execution.arrow.maxRecordsPerBatch",
        "spark.default.parallelism",
        "spark.task.cpus",
        "spark.task.maxFailures",
        "spark.executor.cores",
        "spark.cores.max",
    }
)


class EngineSettings(Group):
    """Where the crop job runs."""

    kind: EngineKind = Field("native", description="what runs the crop job; auto chooses by the size of the backlog")
    master: str = Field("local[2]", description="spark: the master URL: local[N], spark://host:port, yarn, k8s://...")
    conf: dict[str, str] = Field({}, description="passed through to Spark: names that begin with spark.")
    processes: int = Field(0, ge=0, le=256, description="crop processes per worker; 0 is one per core")
    partitions: int = Field(
        0, ge=0, le=100_000, description="clusters: parts of a batch; 0 plans them from bytes and boxes"
    )
    stores: str | None = Field(
        None, description="storage key or local path of the stores table (Parquet, one row per store_id)"
    )
    script: str | None = Field(
        None, description="local path of your own FugueSQL script, see docs/scaling.md; empty is the built-in one"
    )
    frames: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")], str] = Field(
        {},
        description="more frames for your own script, by name: addresses (s3://..., file:///...), storage keys or local "
        "paths of Parquet files",
    )
    ship: tuple[str, ...] = Field(
        (), description="your modules and packages that travel to the workers of a cluster with the job"
    )
    spark: SparkSettings = SparkSettings()
    connect: ConnectSettings = ConnectSettings()
    emr: EmrSettings = EmrSettings()
    dask: DaskSettings = DaskSettings()
    ray: RaySettings = RaySettings()
    auto: AutoSettings = AutoSettings()

    @field_validator("master")
    @classmethod
    def _is_master(cls, value: str) -> str:
        if not _MASTER.fullmatch(value):
            raise ValueError("must be local, local[N], local[*], spark://host:port, yarn or k8s://...")
        return value

    @field_validator("frames")
    @classmethod
    def _names_are_free(cls, value: dict[str, str]) -> dict[str, str]:
        taken = sorted({name for name in value if name.lower() in _OF_THE_JOB})
        if taken:
            raise ValueError(f"{taken[0]}: the script has this frame already; choose another name")
        if len({name.lower() for name in value}) < len(value):
            raise ValueError("two names differ only in case")
        return value

    @field_validator("ship")
    @classmethod
    def _are_modules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in value if not re.fullmatch(r"[A-Za-z_]\w*", name)]
        if wrong:
            raise ValueError(f"{wrong[0][:80]!r} is not the name of a module or a package at the top level")
        return value

    @field_validator("conf")
    @classmethod
    def _names_are_sparks(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = sorted(name for name in value if not re.fullmatch(r"spark\.[A-Za-z0-9_.-]+", name))
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not a Spark setting: their names begin with spark.")
        if "spark.master" in value or "spark.remote" in value:
            raise ValueError("spark.master and spark.remote have their own settings: master, connect.url")
        for name in sorted(_SPARK_COUNTS & value.keys()):
            if not re.fullmatch(r"[1-9][0-9]{0,8}", value[name]):
                raise ValueError(f"{name} must be a whole number of at least 1, not {value[name]!r}")
        return value

    @property
    def cuts_here(self) -> bool:
        """Whether this machine cuts some of the batches, or all."""
        elsewhere = {
            "spark": not self.master.startswith("local"),
            "spark-connect": True,
            "emr-serverless": True,
            "dask": bool(self.dask.scheduler),
            "ray": bool(self.ray.address),
        }
        return not elsewhere.get(self.kind, False)

    @model_validator(mode="after")
    def _has_address(self) -> Self:
        kinds = {self.kind, self.auto.burst} if self.kind == "auto" else {self.kind}
        if "emr-serverless" in kinds and not (self.emr.application_id and self.emr.role_arn):
            raise ValueError(
                "emr-serverless needs CROPLINE_ENGINE__EMR__APPLICATION_ID and CROPLINE_ENGINE__EMR__ROLE_ARN"
            )
        if "spark-connect" in kinds and not self.connect.url:
            raise ValueError("spark-connect needs CROPLINE_ENGINE__CONNECT__URL = sc://host:port")
        if self.spark.max_executors and self.spark.max_executors < self.spark.min_executors:
            raise ValueError("spark.max_executors is below spark.min_executors")
        if self.frames and self.script is None:
            raise ValueError("frames are for a script of your own: set CROPLINE_ENGINE__SCRIPT too")
        return self

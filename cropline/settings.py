"""Every knob, in one frozen tree that is built once and passed in. Nothing else reads the environment.

``CROPLINE_<GROUP>__<NAME>`` in the environment or in ``.env`` sets a value (``CROPLINE_API__URL``); unknown names are
refused. Secrets are SecretStr: they never show in a repr, a log or an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SettingsSourceError

from cropline.api_settings import ApiSettings as ApiSettings
from cropline.api_settings import FieldMap as FieldMap
from cropline.api_settings import is_plain_http
from cropline.engine_settings import EngineSettings as EngineSettings
from cropline.errors import SettingsError
from cropline.keys import canonical_json, digest
from cropline.photo_settings import FetchSettings as FetchSettings
from cropline.photo_settings import PictureLimits as PictureLimits
from cropline.settings_group import Group as Group
from cropline.steps import Step
from cropline.storage import StoreSpec
from cropline.store_address import FORMS, check_address

PREFIX = "CROPLINE_"


# Of a profile, what changes no crop: changing it makes no image other work.
_NO_WORK = {"output", "shard_mb", "retention_days"}
# These stand in every recipe. A field that came later stands there only when it differs from its default: an upgrade is no new
# work. Add no name here, and change no default of a field that is not here: a recipe without it means today's default.
_IN_EVERY_RECIPE = frozenset(
    ("format", "quality", "lossless", "subsampling", "padding", "min_side", "max_side", "matte", "colour")
)


class Profile(Group):
    """A named crop recipe."""

    format: Literal["jpeg", "png", "webp", "avif"] = "jpeg"
    quality: int = Field(90, ge=1, le=100, description="jpeg, webp, avif")
    lossless: bool = Field(False, description="webp only")
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] = Field("4:2:0", description="jpeg only")
    padding: float = Field(0.0, ge=0, le=2, description="fraction of the box's side added on each side")
    min_side: int = Field(0, ge=0, le=20_000, description="px; a crop with a shorter side is skipped")
    max_side: int | None = Field(None, ge=8, le=20_000, description="px; a crop with a longer side is shrunk to it")
    matte: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = Field(
        "#ffffff", description="what shows through transparency where the format has none"
    )
    colour: Literal["srgb", "keep_icc"] = "srgb"
    steps: tuple[Step, ...] = Field(
        (),
        description='functions of your own that every crop goes through before it is encoded, as ["package.module:name"]',
    )
    output: Literal["objects", "shards", "parquet"] = Field(
        "objects", description="one object a crop, or many crops in a WebDataset tar or a Parquet file; no other work"
    )
    retention_days: int | None = Field(
        None, ge=1, le=36_500, description="maintain removes crops this long after their commit; empty keeps them"
    )
    shard_mb: int = Field(256, ge=1, le=512, description="MB at which a shard or Parquet file is full")

    @property
    def extension(self) -> str:
        return {"jpeg": "jpg"}.get(self.format, self.format)

    @property
    def recipe(self) -> str:
        """The profile as canonical JSON, as it travels with the work."""
        fields = self.model_dump(mode="json", exclude=_NO_WORK)
        usual = {name for name, field in type(self).model_fields.items() if getattr(self, name) == field.get_default()}
        return canonical_json({name: fields[name] for name in fields if name in _IN_EVERY_RECIPE or name not in usual})

    @property
    def hash(self) -> str:
        """The identity of the recipe: a changed recipe is other work."""
        if not self.steps:
            return digest(self.recipe)
        # How a function is called changes no crop.
        return digest(canonical_json(json.loads(self.recipe) | {"steps": [step.work for step in self.steps]}))


class StateSettings(Group):
    """The state table."""

    url: SecretStr = Field(
        SecretStr("sqlite:///cropline-output/state.db"), description="sqlite:///path or postgresql+psycopg://..."
    )
    lease_s: float = Field(
        300, gt=0, le=86_400, description="a batch whose holder is silent for so long is resumed by another"
    )
    max_attempts: int = Field(6, ge=1, le=1_000, description="tries of one image before it is dead")
    backoff_s: float = Field(
        60, gt=0, le=30 * 86_400, description="wait after the first transient failure; doubles each time, with jitter"
    )
    backoff_cap_s: float = Field(6 * 3600, gt=0, le=30 * 86_400)
    alert_age: timedelta = Field(
        timedelta(minutes=30),
        ge=timedelta(0),
        le=timedelta(days=36_500),
        description="a pending photo older than this emits the event cropline.backlog.old",
    )

    @field_validator("url")
    @classmethod
    def _is_known_database(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
        return value


class StorageSettings(Group):
    """Where manifests, crops, the catalogue and reports lie."""

    url: str = Field("", description=f"{FORMS}; empty is ./cropline-output")
    endpoint: str | None = Field(None, description="a server other than the cloud's own, http(s)://host[:port][/path]")
    region: str | None = None
    account: str | None = Field(
        None,
        pattern=r"^[a-z0-9]{3,24}$",
        description="az: the storage account, where neither the url nor AZURE_STORAGE_ACCOUNT_NAME names it",
    )
    browse_url: str = Field(
        "", description="http(s) address under which a browser finds what lies in url; the summaries then link there"
    )

    @field_validator("browse_url", "endpoint")
    @classmethod
    def _is_web(cls, value: str | None) -> str | None:
        if value and not is_plain_http(value):
            raise ValueError("must be http(s)://host[:port][/path], without user, query or fragment")
        return value

    @field_validator("url")
    @classmethod
    def _is_store(cls, value: str) -> str:
        if not value:
            return (Path.cwd() / "cropline-output").as_uri()
        check_address(value)
        return value.rstrip("/") if not value.startswith("memory:") else value

    @property
    def spec(self) -> StoreSpec:
        return StoreSpec(self.url, self.endpoint, self.region, self.account)


class BatchSettings(Group):
    """How much is taken at a time."""

    images: int = Field(
        500, ge=1, le=1_000_000, description="images of a batch: the unit of commit, resume and lineage"
    )
    max_batches: int = Field(100, ge=1, description="batches one run takes before it ends")


class ExpectationSettings(Group):
    """What a good manifest is, and how much bad is too much."""

    max_quarantined_fraction: float = Field(
        0.25, ge=0, le=1, description="more bad rows than this fail the run, nothing registered"
    )
    min_rows_for_budget: int = Field(20, ge=1, description="smaller manifests are not judged by the fraction")
    max_age: timedelta = Field(
        timedelta(days=3650),
        ge=timedelta(0),
        le=timedelta(days=36_500),
        description="a photo captured longer ago is quarantined",
    )
    max_ahead: timedelta = Field(
        timedelta(hours=1),
        ge=timedelta(0),
        le=timedelta(days=36_500),
        description="a photo captured further in the future is quarantined",
    )
    max_boxes: int = Field(1_000, ge=1)
    boxes_fail_alone: bool = Field(False, description="a bad box fails alone, with its reason, while its image goes on")


class RetentionSettings(Group):
    """How long maintain keeps what runs leave besides crops, whose profiles say it. Empty keeps it for ever."""

    manifests_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="of a poll's manifests; those that some work needs stay, and trace finds no URL without",
    )
    quarantine_days: int | None = Field(None, ge=1, le=36_500)
    reports_days: int | None = Field(None, ge=1, le=36_500, description="reports and contact sheets")
    orphans: timedelta = Field(
        timedelta(days=2),
        ge=timedelta(days=1),
        le=timedelta(days=36_500),
        description="crops that no batch knows are removed after so long",
    )


class LineageSettings(Group):
    """Where OpenLineage events go."""

    namespace: str = "cropline"
    transport: Literal["file", "http", "kafka", "composite", "none"] = "file"
    transports: tuple[Literal["file", "http", "kafka"], ...] = Field(
        (), description='composite: those that each get every event, as ["file", "http"]'
    )
    path: str | None = Field(
        None,
        description="file: local path; empty is lineage/ below the storage: events.ndjson of a file:// one, else an object a delivery",
    )
    url: str | None = Field(None, description="http: base address of the collector")
    token: SecretStr = Field(SecretStr(""), description="http: bearer token")
    topic: str = Field("openlineage", min_length=1, description="kafka: where the events go")
    kafka: dict[str, SecretStr] = Field(
        {}, description="kafka: what librdkafka is set to, at least bootstrap.servers, as a JSON object"
    )
    timeout_s: float = Field(2, gt=0, le=60, description="what lineage may cost a run, whatever the other side does")

    @property
    def ways(self) -> tuple[str, ...]:
        """The transports that events take; the file comes first, since it costs no time."""
        named = self.transports if self.transport == "composite" else (self.transport,)
        return tuple(sorted(named, key=("file", "http", "kafka", "none").index))

    def file_path(self, spec: StoreSpec) -> Path | None:
        """The local file that the file transport appends to; None when events become objects of the storage."""
        if self.path is not None:
            return Path(self.path)
        return spec.local_path / "lineage" / "events.ndjson" if spec.local_path else None

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        if self.transport == "composite" and (len(self.transports) < 2 or len(set(self.ways)) < len(self.ways)):
            raise ValueError('transport composite needs transports, each once, as ["file", "http"]')
        if self.transports and self.transport != "composite":
            raise ValueError("transports are those of transport composite")
        if "http" in self.ways and not (self.url and is_plain_http(self.url)):
            raise ValueError("transport http needs url = http(s)://host[:port]")
        if "kafka" in self.ways:
            if "bootstrap.servers" not in self.kafka:
                raise ValueError('transport kafka needs kafka = {"bootstrap.servers": "host:9092"}')
            if find_spec("confluent_kafka") is None:
                raise ValueError("transport kafka needs confluent-kafka: install cropline[kafka]")
        return self


class Settings(BaseSettings):
    """The whole tree. Build it with load_settings, which turns mistakes into one clear line each."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        frozen=True,
        extra="forbid",
        validate_default=True,
    )

    api: ApiSettings = ApiSettings()
    fetch: FetchSettings = FetchSettings()
    pictures: PictureLimits = PictureLimits()
    profiles: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")], Profile] = {"default": Profile()}
    state: StateSettings = StateSettings()
    storage: StorageSettings = StorageSettings()
    engine: EngineSettings = EngineSettings()
    batch: BatchSettings = BatchSettings()
    expectations: ExpectationSettings = ExpectationSettings()
    lineage: LineageSettings = LineageSettings()
    retention: RetentionSettings = RetentionSettings()

    @field_validator("profiles")
    @classmethod
    def _has_profile(cls, value: dict[str, Profile]) -> dict[str, Profile]:
        if not value:
            raise ValueError("at least one profile is needed")
        for name, profile in value.items():
            if any(step.columns for step in profile.steps):
                raise ValueError(
                    f"{name}: the catalogue keeps no columns of steps; cropline.crop gives them in a frame"
                )
        return value


def load_settings(**groups: Any) -> Settings:
    """Settings from the arguments, the environment and .env, in that order.

    Raises SettingsError: one line for each mistake, each naming its variable, none showing a value that could be secret.
    """
    _refuse_unknown(os.environ)
    try:
        return Settings(**groups)
    except ValidationError as error:
        raise SettingsError(mistakes(error)) from None
    except SettingsSourceError as error:
        # Its text names the field in quotes; the value, which may be secret, is in its cause only.
        group = PREFIX + str(error).split('"')[1].upper()
        given = {**dotenv_values(".env"), **os.environ}
        text = getattr(error.__cause__, "doc", None)
        name = next((name for name, value in given.items() if value == text and name.upper().startswith(group)), group)
        raise SettingsError(f"{name}: not JSON, as a group, a list or a map must be") from None


def mistakes(error: ValidationError, *group: str) -> str:
    """All of them on one line, each with its variable and without its value. ``group``: whose fields were read."""
    found = error.errors(include_input=False, include_url=False)
    return "; ".join(sorted({f"{_variable((*group, *e['loc']))}: {_explain(e)}" for e in found}))


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """pydantic-settings ignores unknown variables of the environment; a misspelt one must not go unnoticed."""
    for name in environment:
        if name.upper().startswith(PREFIX):
            group = name.upper()[len(PREFIX) :].split("__")[0].lower()
            if group not in Settings.model_fields:
                raise SettingsError(f"{name}: unknown setting; groups are {', '.join(Settings.model_fields)}")


def _variable(location: tuple[int | str, ...]) -> str:
    return PREFIX + "__".join(str(part) for part in location if part != "[key]").upper()


def _explain(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown setting"
    return str(error["msg"]).removeprefix("Value error, ")

"""All settings as one frozen tree.

``CROPLINE_<GROUP>__<NAME>`` in the environment or in ``.env`` sets a value, for example ``CROPLINE_API__URL``; so does
``[api] url`` in the TOML file (places.py). Unknown names are refused. Secrets are SecretStr, so that no repr, log or error
shows them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SettingsSourceError

from cropline.config.api import ApiSettings as ApiSettings
from cropline.config.api import FieldMap as FieldMap
from cropline.config.batch import BatchSettings
from cropline.config.engine import EngineSettings as EngineSettings
from cropline.config.events import EventSettings
from cropline.config.expectations import ExpectationSettings
from cropline.config.fetch import FetchSettings as FetchSettings
from cropline.config.group import Group as Group
from cropline.config.lineage import LineageSettings
from cropline.config.otlp import OtlpSettings
from cropline.config.pictures import PictureLimits as PictureLimits
from cropline.config.places import (
    ENV_FILE,
    PREFIX,
    Location,
    Place,
    noted_places,
    place_of,
    setting_name,
    settings_sources,
)
from cropline.config.profile import Profile
from cropline.config.retention import RetentionSettings
from cropline.config.sources import GROUPS, SourceSettings, over_common
from cropline.config.state import StateSettings
from cropline.config.storage import StorageSettings
from cropline.core.errors import SettingsError
from cropline.core.keys import digest
from cropline.core.own_columns import step_columns
from cropline.core.store_address import read_address
from cropline.core.store_spec import StoreSpec


class Settings(BaseSettings):
    """All groups of settings. Build it with load_settings, which reports each mistake in one line."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=ENV_FILE,
        frozen=True,
        extra="forbid",
        validate_default=True,
    )

    api: ApiSettings = ApiSettings()
    fetch: FetchSettings = FetchSettings()
    pictures: PictureLimits = PictureLimits()
    profiles: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")], Profile] = Field(
        {"default": Profile()}, description="the crop recipes by name; every box is cut once for each"
    )
    state: StateSettings = StateSettings()
    storage: StorageSettings = StorageSettings()
    engine: EngineSettings = EngineSettings()
    batch: BatchSettings = BatchSettings()
    expectations: ExpectationSettings = ExpectationSettings()
    lineage: LineageSettings = LineageSettings()
    events: EventSettings = EventSettings()
    otlp: OtlpSettings = OtlpSettings()
    retention: RetentionSettings = RetentionSettings()
    sources: dict[str, SourceSettings] = Field(
        {},
        description="several sources by name, each with its own settings over the common ones; empty: one source, api",
    )
    environment: str = Field(
        "",
        pattern=r"^([a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?)?$",
        description="a name such as staging: it begins the names of pool, deployments, limits, automations, artifacts and "
        "tags, so that several environments can share a Prefect server; empty: no prefix",
    )
    image: str = Field(
        "", pattern=r"^[\w./:@-]*$", description="container image of the runs, for work pools of Docker and Kubernetes"
    )
    pool_type: Literal["process", "docker", "kubernetes"] = Field(
        "process", description="type of the work pool that cropline deploy makes"
    )
    config: str = Field("", description="TOML file with settings; empty is ./cropline.toml, if it exists")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, the environment, .env and the TOML file, in this order."""
        return settings_sources(settings_cls, init_settings)

    @model_validator(mode="before")
    @classmethod
    def _sources_over_common(cls, data: Any) -> Any:
        return over_common(data) if isinstance(data, Mapping) else data

    @field_validator("profiles")
    @classmethod
    def _has_profile(cls, value: dict[str, Profile]) -> dict[str, Profile]:
        if not value:
            raise ValueError("at least one profile is needed")
        step_columns((name, step.columns) for name, profile in value.items() for step in profile.steps)
        return value

    def bucket_spec(self, bucket: str) -> StoreSpec:
        """Return how to open a bucket that is read: one in the storage's cloud is on the storage's server.

        ``bucket``: its address, such as s3://name. Photos in buckets are read by the same rule.
        """
        cloud = read_address(bucket).cloud
        own = self.storage.spec if self.storage.spec.address.cloud == cloud else None
        endpoint = self.fetch.bucket_endpoints.get(cloud) or (own.endpoint if own else None)
        return StoreSpec(bucket, endpoint, own.region if own else None, own.account if own else None)

    @property
    def source_names(self) -> tuple[str, ...]:
        """The names of the sources, of one or of several."""
        return tuple(self.sources) or (self.api.source,)

    def named(self, name: str) -> str:
        """Return a name on the Prefect server: with this environment's prefix, if it has one."""
        return f"{self.environment}-{name}" if self.environment else name

    def resource(self, kind: str, name: str) -> str:
        """Return the id of what a Prefect event is about: cropline.source.acme, cropline.staging.source.acme."""
        return ".".join(["cropline", *([self.environment] if self.environment else []), kind, name])

    @property
    def digest(self) -> str:
        """Eight characters that change with any setting; secrets do not enter it."""
        return digest(self.model_dump_json())[:8]

    def of(self, source: str) -> Settings:
        """Return the settings of one source. Raise SettingsError, which lists the sources, for an unknown one."""
        if source not in self.source_names:
            raise SettingsError(f"no source {source!r}; the sources are {', '.join(self.source_names)}")
        if not self.sources:
            return self
        own = self.sources[source]
        return self.model_copy(update={"sources": {source: own}} | {name: getattr(own, name) for name in GROUPS})


def files_instead(api: ApiSettings, files: str, form: str) -> ApiSettings:
    """Return the settings of a source of files with the mapping of another source. Raise SettingsError."""
    given = api.model_dump(exclude_unset=True) | {"kind": "files", "url": files}
    try:
        return ApiSettings.model_validate(given | ({"format": form} if form else {}))
    except ValidationError as error:
        raise SettingsError(f"--from: {'; '.join(_explain(mistake) for mistake in error.errors())}") from None


def load_settings(source: str | None = None, **groups: Any) -> Settings:
    """Return the settings of one source, from the arguments, the environment, .env and the TOML file, in that order.

    ``source`` None: the only one. Raise SettingsError, which has one line per mistake with its variable and never shows a
    value that could be secret, and when there are several sources and none is named.
    """
    settings = load_installation(**groups)
    if source is None and len(settings.source_names) > 1:
        raise SettingsError(f"there are several sources; name one with --source: {', '.join(settings.source_names)}")
    return settings.of(source or settings.source_names[0])


def load_installation(**groups: Any) -> Settings:
    """Return the settings of all sources, for what concerns the whole installation. Raise SettingsError.

    With several sources ``api`` is empty, and the other groups are the common ones: ``of`` returns those of a source.
    """
    return load_places(**groups)[0]


def load_places(**groups: Any) -> tuple[Settings, list[Place]]:
    """Return load_installation's settings, and the places that they were read from, the strongest first."""
    _refuse_unknown(os.environ)
    with noted_places() as places:
        return _read(places, groups), places


def _read(places: list[Place], groups: Mapping[str, Any]) -> Settings:
    try:
        return Settings(**groups)
    except ValidationError as error:
        raise SettingsError(_mistakes(error, places)) from None
    except SettingsSourceError as error:
        # The error's text names the field in quotes. Only its cause holds the value, which may be secret.
        group = PREFIX + str(error).split('"')[1].upper()
        given = {**dotenv_values(".env"), **os.environ}
        text = getattr(error.__cause__, "doc", None)
        name = next((name for name, value in given.items() if value == text and name.upper().startswith(group)), group)
        raise SettingsError(f"{name}: not JSON; a group, a list or a map must be JSON") from None


def mistakes(error: ValidationError, *group: str) -> str:
    """Return all mistakes on one line, each with its variable and without its value.

    ``group``: the group that was read.
    """
    return _mistakes(error, [], *group)


def _mistakes(error: ValidationError, places: list[Place], *group: str) -> str:
    found = error.errors(include_input=False, include_url=False)
    return "; ".join(sorted({f"{_name(places, (*group, *e['loc']))}: {_explain(e)}" for e in found}))


def _name(places: list[Place], location: Location) -> str:
    """Return the setting's name where it is set: a value of a source may be the common one."""
    common = location[2:]
    if location[:1] == ("sources",) and common and place_of(places, location) is None and place_of(places, common):
        location = common
    return setting_name(places, location)


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """Refuse misspelt variables, which pydantic-settings ignores."""
    for name in environment:
        if name.upper().startswith(PREFIX):
            group = name.upper()[len(PREFIX) :].split("__")[0].lower()
            if group not in Settings.model_fields:
                raise SettingsError(f"{name}: unknown setting; groups are {', '.join(Settings.model_fields)}")


def _explain(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown setting"
    return str(error["msg"]).removeprefix("Value error, ")

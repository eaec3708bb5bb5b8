"""All settings as one frozen tree.

``CROPLINE_<GROUP>__<NAME>`` in the environment or in ``.env`` sets a value, for example ``CROPLINE_API__URL``; unknown
names are refused. Secrets are SecretStr, so that no repr, log or error shows them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SettingsSourceError

from cropline.config.api import ApiSettings as ApiSettings
from cropline.config.api import FieldMap as FieldMap
from cropline.config.batch import BatchSettings
from cropline.config.engine import EngineSettings as EngineSettings
from cropline.config.expectations import ExpectationSettings
from cropline.config.fetch import FetchSettings as FetchSettings
from cropline.config.group import Group as Group
from cropline.config.lineage import LineageSettings
from cropline.config.pictures import PictureLimits as PictureLimits
from cropline.config.profile import Profile
from cropline.config.retention import RetentionSettings
from cropline.config.state import StateSettings
from cropline.config.storage import StorageSettings
from cropline.core.errors import SettingsError

PREFIX = "CROPLINE_"


class Settings(BaseSettings):
    """All groups of settings. Build it with load_settings, which reports each mistake in one line."""

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
    profiles: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")], Profile] = Field(
        {"default": Profile()}, description="the crop recipes by name; every box is cut once for each"
    )
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
                    f"{name}: the catalogue keeps no columns of steps; cropline.crop returns them in a DataFrame"
                )
        return value


def load_settings(**groups: Any) -> Settings:
    """Return settings from the arguments, the environment and .env, in that order.

    Raise SettingsError, which has one line per mistake with its variable and never shows a value that could be secret.
    """
    _refuse_unknown(os.environ)
    try:
        return Settings(**groups)
    except ValidationError as error:
        raise SettingsError(mistakes(error)) from None
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
    found = error.errors(include_input=False, include_url=False)
    return "; ".join(sorted({f"{_variable((*group, *e['loc']))}: {_explain(e)}" for e in found}))


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """Refuse misspelt variables, which pydantic-settings ignores."""
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

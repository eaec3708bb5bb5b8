"""Settings of the state database."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, SecretStr, field_validator

from cropline.config.api import ApiSettings as ApiSettings
from cropline.config.api import FieldMap as FieldMap
from cropline.config.engine import EngineSettings as EngineSettings
from cropline.config.fetch import FetchSettings as FetchSettings
from cropline.config.group import Group as Group
from cropline.config.pictures import PictureLimits as PictureLimits


class StateSettings(Group):
    """The state table and its work queue."""

    url: SecretStr = Field(
        SecretStr("sqlite:///cropline-output/state.db"), description="sqlite:///path or postgresql+psycopg://..."
    )
    lease_s: float = Field(
        300,
        gt=0,
        le=86_400,
        description="another run resumes a batch whose run has not renewed its lease for this long",
    )
    max_attempts: int = Field(6, ge=1, le=1_000, description="attempts at one image before it is dead")
    backoff_s: float = Field(
        60, gt=0, le=30 * 86_400, description="wait after the first transient failure; doubles each time, with jitter"
    )
    backoff_cap_s: float = Field(
        6 * 3600, gt=0, le=30 * 86_400, description="the longest wait between two tries of an image"
    )
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

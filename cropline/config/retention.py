"""How long everything except crops is kept; a profile sets that of its crops."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from cropline.config.api import ApiSettings as ApiSettings
from cropline.config.api import FieldMap as FieldMap
from cropline.config.engine import EngineSettings as EngineSettings
from cropline.config.fetch import FetchSettings as FetchSettings
from cropline.config.group import Group as Group
from cropline.config.pictures import PictureLimits as PictureLimits


class RetentionSettings(Group):
    """How long maintain keeps everything except crops; a profile sets that of its crops. Empty keeps it for ever."""

    manifests_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="for manifests; one that a work item needs stays; without its manifest, trace finds no URL of an image",
    )
    quarantine_days: int | None = Field(None, ge=1, le=36_500, description="quarantined rows")
    reports_days: int | None = Field(None, ge=1, le=36_500, description="reports and contact sheets")
    state_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="photos that are done leave the state table after this time; the catalogue knows them, so they are "
        "recognised when they are announced again",
    )
    orphans: timedelta = Field(
        timedelta(days=2),
        ge=timedelta(days=1),
        le=timedelta(days=36_500),
        description="crops that no batch knows are removed after this time",
    )

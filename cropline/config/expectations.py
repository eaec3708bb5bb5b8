"""Settings of the checks on manifests."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from cropline.config.api import ApiSettings as ApiSettings
from cropline.config.api import FieldMap as FieldMap
from cropline.config.engine import EngineSettings as EngineSettings
from cropline.config.fetch import FetchSettings as FetchSettings
from cropline.config.group import Group as Group
from cropline.config.pictures import PictureLimits as PictureLimits


class ExpectationSettings(Group):
    """What a good manifest is, and how many bad rows fail it."""

    max_quarantined_fraction: float = Field(
        0.25, ge=0, le=1, description="a larger fraction of bad rows fails the run; nothing is registered"
    )
    min_rows_for_budget: int = Field(20, ge=1, description="smaller manifests are not checked against the fraction")
    max_age: timedelta = Field(
        timedelta(days=3650),
        ge=timedelta(0),
        le=timedelta(days=36_500),
        description="a photo that was captured longer ago is quarantined",
    )
    max_ahead: timedelta = Field(
        timedelta(hours=1),
        ge=timedelta(0),
        le=timedelta(days=36_500),
        description="a photo with a capture time further in the future is quarantined",
    )
    max_boxes: int = Field(1_000, ge=1, description="an image with more boxes is quarantined")
    boxes_fail_alone: bool = Field(
        False, description="a bad box fails with its reason, and its image's other boxes are cropped"
    )

"""The size of batches."""

from __future__ import annotations

from pydantic import Field

from cropline.config.api import ApiSettings as ApiSettings
from cropline.config.api import FieldMap as FieldMap
from cropline.config.engine import EngineSettings as EngineSettings
from cropline.config.fetch import FetchSettings as FetchSettings
from cropline.config.group import Group as Group
from cropline.config.pictures import PictureLimits as PictureLimits


class BatchSettings(Group):
    """How many images a batch has, and how many batches a run processes."""

    images: int = Field(500, ge=1, le=1_000_000, description="images per batch: the unit of commit, resume and lineage")
    max_batches: int = Field(100, ge=1, description="the most batches that one run processes")

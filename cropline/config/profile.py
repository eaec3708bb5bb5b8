"""Profiles: named crop recipes."""

from __future__ import annotations

import json
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cropline.config.api import ApiSettings as ApiSettings
from cropline.config.api import FieldMap as FieldMap
from cropline.config.engine import EngineSettings as EngineSettings
from cropline.config.fetch import FetchSettings as FetchSettings
from cropline.config.group import Group as Group
from cropline.config.pictures import PictureLimits as PictureLimits
from cropline.config.steps import Step
from cropline.core.keys import canonical_json, digest

# Fields that change no crop: changing them makes no new work.
_NO_WORK = {"output", "shard_mb", "retention_days"}
# Fields that every recipe contains. A recipe contains a later field only when it differs from its default, so
# an upgrade makes no new work. Add no name here, and keep the defaults of other fields: a recipe without them
# means today's default.
_IN_EVERY_RECIPE = frozenset(
    ("format", "quality", "lossless", "subsampling", "padding", "min_side", "max_side", "matte", "colour")
)
# The most effort of each format: fugue_jobs/imaging/encode.py passes it to Pillow.
_MOST_EFFORT = {"jpeg": 1, "png": 9, "webp": 6, "avif": 10}
# What nobody can choose for crops that are copied bits.
_NOT_LOSSLESS = ("max_side", "quality", "subsampling", "matte", "effort", "steps")


class Profile(Group):
    """A named crop recipe."""

    format: Literal["jpeg", "png", "webp", "avif"] = Field("jpeg", description="format of the crops")
    quality: int = Field(90, ge=1, le=100, description="jpeg, webp, avif")
    lossless: bool = Field(
        False,
        description="webp: keep every pixel; jpeg: copy the photo's bits, so the crop is neither decoded nor encoded "
        "(docs/profiles.md)",
    )
    lossless_upright: bool = Field(
        False, description="lossless jpeg: turn the crop upright instead of writing EXIF's orientation"
    )
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] = Field("4:2:0", description="jpeg only")
    padding: float = Field(0.0, ge=0, le=2, description="fraction of the box's side added on each side")
    min_side: int = Field(0, ge=0, le=20_000, description="px; a crop with a shorter side is skipped")
    max_side: int | None = Field(None, ge=8, le=20_000, description="px; a crop with a longer side is shrunk to it")
    matte: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = Field(
        "#ffffff", description="colour behind transparent parts, for formats without transparency"
    )
    colour: Literal["srgb", "keep_icc"] = Field(
        "srgb", description="srgb converts the pixels; keep_icc keeps them and embeds the photo's ICC profile"
    )
    effort: int | None = Field(
        None,
        ge=0,
        le=10,
        description="more makes smaller files and takes longer: png 0 to 9, webp 0 to 6, avif 0 to 10, jpeg 0 or 1; "
        "empty is png 1, webp 4 (lossless 1), avif 4, jpeg 0",
    )
    steps: tuple[Step, ...] = Field(
        (),
        description='your own functions, applied to every crop before it is encoded, as ["package.module:name"]',
    )
    output: Literal["objects", "shards", "parquet"] = Field(
        "objects",
        description="one object per crop, or many crops in a WebDataset tar or a Parquet file; a change makes no new work",
    )
    retention_days: int | None = Field(
        None, ge=1, le=36_500, description="maintain removes crops this long after their commit; empty keeps them"
    )
    shard_mb: int = Field(256, ge=1, le=512, description="size in MB at which a shard or Parquet file is closed")

    @model_validator(mode="after")
    def _has_effort_of_format(self) -> Self:
        most = _MOST_EFFORT[self.format]
        if self.effort is not None and self.effort > most:
            raise ValueError(f"effort of {self.format} is 0 to {most}, not {self.effort}")
        return self

    @model_validator(mode="after")
    def _can_be_lossless(self) -> Self:
        if self.lossless and self.format == "avif":
            raise ValueError("avif crops always lose detail: leave out lossless, or choose webp or png")
        return self

    @model_validator(mode="after")
    def _copies_bits_of_photos(self) -> Self:
        if not self.copies_bits:
            if self.lossless_upright:
                raise ValueError("lossless_upright needs lossless and format jpeg")
            return self
        changed = [name for name in _NOT_LOSSLESS if getattr(self, name) != type(self).model_fields[name].get_default()]
        if changed:
            raise ValueError(f"a lossless jpeg copies the photo's bits: leave out {', '.join(changed)}")
        return self

    @property
    def copies_bits(self) -> bool:
        """Whether crops are cut out of the photo's bits, without decoding and encoding."""
        return self.lossless and self.format == "jpeg"

    @property
    def extension(self) -> str:
        return {"jpeg": "jpg"}.get(self.format, self.format)

    @property
    def recipe(self) -> str:
        """The profile as canonical JSON, stored with each work item."""
        fields = self.model_dump(mode="json", exclude=_NO_WORK)
        defaults = {
            name for name, field in type(self).model_fields.items() if getattr(self, name) == field.get_default()
        }
        return canonical_json(
            {name: fields[name] for name in fields if name in _IN_EVERY_RECIPE or name not in defaults}
        )

    @property
    def hash(self) -> str:
        """The hash of the recipe: another recipe is other work."""
        if not self.steps:
            return digest(self.recipe)
        # A step's batch, timeout and memory change no crop.
        return digest(canonical_json(json.loads(self.recipe) | {"steps": [step.work for step in self.steps]}))

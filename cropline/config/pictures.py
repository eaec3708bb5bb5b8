"""Limits of photos."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cropline.config.group import Group
from cropline.core.crop_options import PictureOptions

PictureFormat = Literal["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIC"]


class PictureLimits(Group):
    """Limits of photos, checked on a photo's header before it is decoded."""

    formats: tuple[PictureFormat, ...] = Field(
        ("JPEG", "PNG", "WEBP"),
        min_length=1,
        description="HEIC needs the extra cropline[heic] where photos are decoded",
    )
    max_pixels: int = Field(50_000_000, gt=0, description="a photo with more pixels is refused undecoded")
    max_side: int = Field(20_000, gt=0, description="px; a photo with a longer side is refused undecoded")
    max_scans: int = Field(256, gt=0, description="scans of a progressive JPEG")
    max_boxes: int = Field(1_000, gt=0, description="an image with more boxes fails whole")
    decode_timeout_s: float = Field(
        20, gt=0, le=3_600, description="time limit for decoding one picture; only that picture fails"
    )
    min_iou: float = Field(
        0.5, ge=0, le=1, description="a box that sticks out is clipped; it fails when less than this share is inside"
    )
    size_mismatch: Literal["rescale", "fail", "ignore"] = Field(
        "rescale",
        description="a photo of another size than the API declares: boxes in pixels are rescaled when the aspect is the same, "
        "or fail (size_mismatch), or are cut as they are; each crop gets a flag",
    )

    @property
    def options(self) -> PictureOptions:
        """The limits as plain values, for workers."""
        return PictureOptions(
            formats=self.formats,
            max_pixels=self.max_pixels,
            max_side=self.max_side,
            max_scans=self.max_scans,
            max_boxes=self.max_boxes,
            decode_timeout_s=self.decode_timeout_s,
            min_iou=self.min_iou,
            size_mismatch=self.size_mismatch,
        )

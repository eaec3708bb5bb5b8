"""Crops of one photo and a picture of it with its boxes, for ``cropline crop`` and ``cropline show``.

This process decodes only pictures that a crop process has encoded: any photo may be hostile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.config.settings import FetchSettings
from cropline.core.store_spec import StoreSpec
from cropline.reports.contact_sheet import Tile, boxes_on_photo

_VIEW = "view"
_VIEW_PROFILE = Profile(max_side=2000)
_WHOLE = {"box_id": "photo", "xmin": 0.0, "ymin": 0.0, "xmax": 1.0, "ymax": 1.0}


def image_row(
    name: str, number: int, url: str, boxes: list[dict[str, Any]], profiles: Mapping[str, Profile]
) -> dict[str, Any]:
    """Return a row of schemas.IMAGES."""
    work = [
        {"profile": name, "profile_hash": profile.hash, "recipe": profile.recipe, "fingerprint": profile.hash}
        for name, profile in profiles.items()
    ]
    return {
        "source": "crop",
        "image_id": name,
        "manifest": "crop",
        "manifest_row": number,
        "url": url,
        "coordinates": "normalised",
        "orientation": "upright",
        "boxes": boxes,
        "work": work,
    }


def view_row(number: int, url: str, profile: Profile = _VIEW_PROFILE) -> dict[str, Any]:
    """Return a row that cuts the whole photo, upright, as one box; scaled down unless a profile says otherwise."""
    return image_row(_VIEW, number, url, [_WHOLE], {_VIEW: profile})


def cut(
    images: list[dict[str, Any]], store: StoreSpec, fetch: FetchSettings, pictures: PictureLimits
) -> list[dict[str, Any]]:
    """Cut the boxes into the store. Return rows of schemas.CROPS by image, box and profile."""
    import pyarrow as pa

    from cropline.core.schemas import IMAGES
    from fugue_jobs.crop_images import CropJob, crop_images

    job = CropJob(store, fetch.options, pictures.options, processes=1)
    tables = crop_images(job)([pa.Table.from_pylist(images, schema=IMAGES)])
    return [row for table in tables for row in table.to_pylist()]


def with_boxes(
    file: Path, view: Mapping[str, Any], boxes: Iterable[tuple[Mapping[str, Any], str, bool]], tiles: Sequence[Tile]
) -> bytes:
    """Return a JPEG of the photo (the view's file and row) with its boxes: row, label, and whether it was written."""
    from PIL import Image

    shrunk = view["width"] / view["image_width"]
    placed = [
        (*(round(row[edge] * shrunk) for edge in ("left", "top", "right", "bottom")), label, written)
        for row, label, written in boxes
        if row["left"] is not None
    ]
    with Image.open(file) as photo:
        return boxes_on_photo(photo, placed, tiles)

"""What commands ask of the engine for one photo: its crops, and the photo itself to be looked at.

Belongs here: a job of a few rows, and the picture of a photo with its boxes. Does not: which photo, or where files go (crop.py,
show.py). Nothing is decoded in this process but what the engine encoded: a photo is as hostile here as anywhere.
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
    """A row of schemas.IMAGES."""
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


def view_row(number: int, url: str) -> dict[str, Any]:
    """The photo whole, upright and not too large, cut like any box."""
    return image_row(_VIEW, number, url, [_WHOLE], {_VIEW: _VIEW_PROFILE})


def cut(
    images: list[dict[str, Any]], store: StoreSpec, fetch: FetchSettings, pictures: PictureLimits
) -> list[dict[str, Any]]:
    """Rows of schemas.CROPS by image, box and profile; their crops lie in the store."""
    import pyarrow as pa

    from cropline.core.schemas import IMAGES
    from fugue_jobs.crop_images import CropJob, crop_images

    job = CropJob(store, fetch, pictures, processes=1)
    tables = crop_images(job)([pa.Table.from_pylist(images, schema=IMAGES)])
    return [row for table in tables for row in table.to_pylist()]


def with_boxes(
    file: Path, view: Mapping[str, Any], boxes: Iterable[tuple[Mapping[str, Any], str, bool]], tiles: Sequence[Tile]
) -> bytes:
    """JPEG of the photo (the view's file and row) with its boxes: their rows, what is written at them, whether cut."""
    from PIL import Image

    shrunk = view["width"] / view["image_width"]
    placed = [
        (*(round(row[edge] * shrunk) for edge in ("left", "top", "right", "bottom")), label, written)
        for row, label, written in boxes
        if row["left"] is not None
    ]
    with Image.open(file) as photo:
        return boxes_on_photo(photo, placed, tiles)

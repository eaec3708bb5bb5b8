"""cropline show: one picture that says what became of one photo."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from cropline import keys, manifest
from cropline.catalogue import Catalogue
from cropline.crops import read_crop
from cropline.errors import CatalogueError, CroplineError, StorageError
from cropline.failures import PhotoFailure
from cropline.report.contact_sheet import Tile, boxes_on_photo
from cropline.settings import Settings, load_settings


class PhotoGone(CroplineError):
    """The photo itself can no longer be fetched."""

    code = "photo"


def show_image(image_id: str, out: Path | None) -> None:
    """Fetch the photo again, draw its boxes, put its crops below, write one JPEG.

    Raises CatalogueError when the image has no crops, PhotoGone when its host does not give it any more.
    """
    settings = load_settings()
    rows = Catalogue(settings.storage.spec).image_rows(settings.api.source, image_id).to_pylist()
    if not rows:
        raise CatalogueError(f"no image {image_id} of {settings.api.source} in the catalogue; see cropline status")
    path = out or Path(f"{keys.safe_name(image_id)}.jpg")
    path.write_bytes(_draw(settings, rows))
    written = sum(row["status"] == "written" for row in rows)
    console = Console()
    console.print(f"{path}: {len(rows)} boxes, {written} crops", highlight=False, soft_wrap=True)
    for row in rows:
        if row["status"] != "written":
            console.print(
                f"  {row['box_id']}: {row['status']}, {row['reason']}: {row['detail']}", highlight=False, markup=False
            )


def _draw(settings: Settings, rows: list[dict[str, Any]]) -> bytes:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(_fetch(settings, rows[0]))) as opened:
        photo = ImageOps.exif_transpose(opened)
    placed = [row for row in rows if row["left"] is not None]
    boxes = [
        (row["left"], row["top"], row["right"], row["bottom"], row["box_id"] or "", row["status"] == "written")
        for row in placed
    ]
    return boxes_on_photo(photo, boxes, [tile for row in rows if (tile := _tile(settings, row))])


def _tile(settings: Settings, row: dict[str, Any]) -> Tile | None:
    if row["status"] != "written":
        return None
    try:
        data = read_crop(settings.storage.spec, row)
    except StorageError:
        data = b""
    return Tile(data, f"{row['box_id']} {row['label'] or ''}", f"{row['width']} x {row['height']} px {row['profile']}")


def _fetch(settings: Settings, row: dict[str, Any]) -> bytes:
    from fugue_jobs.fetch import Fetcher

    rows = manifest.read(settings.storage.spec, row["manifest"], ["row", "url", "sha256"]).to_pylist()
    listed = next(entry for entry in rows if entry["row"] == row["manifest_row"])
    try:
        with Fetcher(settings.fetch) as fetcher:
            return fetcher.fetch(listed["url"], expected_sha256=listed["sha256"]).data
    except PhotoFailure as failure:
        raise PhotoGone(f"{row['image_id']} cannot be fetched again: {failure}") from None

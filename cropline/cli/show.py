"""``cropline show``: one picture of a photo with its boxes and crops."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from cropline.catalogue import Catalogue
from cropline.catalogue.crop_files import read_crop
from cropline.cli.photo_view import cut, view_row, with_boxes
from cropline.config.settings import Settings, load_installation
from cropline.core import keys
from cropline.core.errors import CatalogueError, CroplineError, SettingsError, StorageError
from cropline.core.screen import Screen
from cropline.core.scrub import visible
from cropline.core.store_spec import StoreSpec
from cropline.intake import manifest
from cropline.pipeline.photo_rows import rows_of_photo
from cropline.reports.contact_sheet import Tile


class PhotoGone(CroplineError):
    """The photo can no longer be fetched."""

    code = "photo"


def show_image(image_id: str, out: Path | None, source: str | None = None) -> None:
    """Fetch the photo again, and write one JPEG with its boxes and its crops below.

    Raises CatalogueError when the image has no crops, PhotoGone when the photo cannot be fetched.
    """
    settings, rows = _found(image_id, source)
    path = out or Path(f"{keys.safe_name(image_id)}.jpg")
    picture = _picture(settings, rows)
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise SettingsError(f"--out {path}: cannot be written to ({error.strerror})") from None
    written = sum(row["status"] == "written" for row in rows)
    screen = Screen()
    screen.print(f"{path}: {len(rows)} boxes, {written} crops", soft_wrap=True)
    for row in rows:
        if row["status"] != "written":
            said = f"{row['box_id']}: {row['status']}, {row['reason']}: {row['detail']}"
            screen.print(f"  {visible(said)}", soft_wrap=True)


def _found(image_id: str, source: str | None) -> tuple[Settings, list[dict[str, Any]]]:
    """Return the settings of the image's source, and its rows. Raise SettingsError when two sources have this id."""
    installation = load_installation()
    names = installation.source_names if source is None else (installation.of(source).api.source,)
    catalogue = Catalogue(installation.storage.spec)
    told = {name: rows_of_photo(catalogue, installation.state, name, image_id).to_pylist() for name in names}
    found = {name: rows for name, rows in told.items() if rows}
    if not found:
        raise CatalogueError(f"no image {image_id} of {', '.join(names)} in the catalogue; see cropline status")
    if len(found) > 1:
        raise SettingsError(f"several sources have an image {image_id}; name one with --source: {', '.join(found)}")
    ((name, rows),) = found.items()
    return installation.of(name), rows


def _picture(settings: Settings, rows: list[dict[str, Any]]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="cropline-") as folder:
        image = view_row(0, "") | announced(settings, rows[0])
        (view,) = cut([image], StoreSpec(Path(folder).as_uri()), settings.fetch, settings.pictures)
        if view["status"] != "written":
            why = f"{view['reason']}: {view['detail']}"
            raise PhotoGone(f"{rows[0]['image_id']} of {rows[0]['source']} cannot be fetched again: {why}")
        boxes = [(row, row["box_id"] or "", row["status"] == "written") for row in rows]
        tiles = [tile for row in rows if (tile := _tile(settings, row))]
        return with_boxes(Path(folder, view["key"]), view, boxes, tiles)


def announced(settings: Settings, row: dict[str, Any]) -> dict[str, Any]:
    """Return URL, size and sha256 of the photo from its manifest."""
    names = ["url", "bytes", "sha256"]
    found = manifest.read_rows(settings.storage.spec, row["manifest"], [row["manifest_row"]], names).to_pylist()
    if not found:
        raise CatalogueError(f"manifest {row['manifest']} has no row {row['manifest_row']}")
    return {name: found[0][name] for name in names}


def _tile(settings: Settings, row: dict[str, Any]) -> Tile | None:
    if row["status"] != "written":
        return None
    try:
        data = read_crop(settings.storage.spec, row)
    except StorageError:
        data = b""
    return Tile(data, f"{row['box_id']} {row['label'] or ''}", f"{row['width']} x {row['height']} px {row['profile']}")

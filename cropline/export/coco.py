"""COCO: annotations.json, with photos or crops as its images.

With photos, an image is a photo and an annotation is the region of one crop in it. Without, each crop is an image, and
its annotation covers all of it (of a lossless crop, the cut).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cropline.core.errors import ExportError
from cropline.core.scrub import one_line
from cropline.export.crops import Crop, Write, json_text, save
from cropline.export.photos import Photo, SavedPhotos

UNLABELLED = "unlabelled"


def category_ids(labels: Sequence[str | None], file: Path | None) -> dict[str, int]:
    """Return label -> id: those of the file, then the other labels in their order, from 1. UNLABELLED is for crops without.

    Raise ExportError when the file is no list of {"id", "name"}, as in COCO.
    """
    known = _read(file) if file is not None and file.exists() else {}
    number = max(known.values(), default=0)
    for label in sorted({label or UNLABELLED for label in labels} - set(known)):
        number += 1
        known[label] = number
    return known


def write_categories(ids: Mapping[str, int], file: Path) -> None:
    """Write the categories, so that the next export uses the same ids."""
    text = json.dumps(_categories(ids), ensure_ascii=False, indent=1) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)


def _categories(ids: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"id": number, "name": label} for label, number in sorted(ids.items(), key=lambda entry: entry[1])]


def _read(file: Path) -> dict[str, int]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        entries = told["categories"] if isinstance(told, dict) else told
        found = {entry["name"]: entry["id"] for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"--categories {file}: {one_line(str(error)) or type(error).__name__}") from None
    usable = all(isinstance(name, str) and type(number) is int for name, number in found.items())
    if not usable or len(found) < len(entries) or len(set(found.values())) < len(found):
        raise ExportError(f'--categories {file}: not a list of {{"id": 1, "name": "cola"}} with each id and name once')
    return found


@contextmanager
def coco(out: Path, ids: Mapping[str, int], photos: SavedPhotos | None) -> Iterator[Write]:
    """Write annotations.json and, without photos, the crops. Crops of photos that are missing are left out."""
    images: dict[Photo | str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []

    def write(crop: Crop) -> bool:
        row = crop.row
        photo = (row["source"], row["image_id"], row["version"] or "")
        width, height = row["right"] - row["left"], row["bottom"] - row["top"]
        if photos is None:
            name = f"crops/{crop.file_name}"
            save(out / name, crop.data)
            place: Photo | str = name
            image = {"file_name": name, "width": row["width"], "height": row["height"]}
            # A lossless crop may be larger than its cut.
            cut = row.get("box_left") is not None
            box = [row["box_left"], row["box_top"], width, height] if cut else [0, 0, row["width"], row["height"]]
            more = {"photo_bbox": [row["left"], row["top"], width, height]}
        elif photo in photos.names:
            place, more = photo, {}
            image = {"file_name": photos.names[photo], "width": row["image_width"], "height": row["image_height"]}
            box = [row["left"], row["top"], width, height]
        else:
            return False
        told = {"date_captured": crop.facts["captured_at"], "source": row["source"], "photo_id": row["image_id"]}
        image = images.setdefault(place, {"id": len(images) + 1} | image | told)
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image["id"],
                "category_id": ids[row["label"] or UNLABELLED],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "box_id": row["box_id"],
                "key": row["key"],
            }
            | more
        )
        return True

    yield write
    whole = {"images": list(images.values()), "annotations": annotations, "categories": _categories(ids)}
    (out / "annotations.json").write_text(json_text(whole), encoding="utf-8")

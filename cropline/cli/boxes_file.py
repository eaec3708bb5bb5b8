"""Reads the boxes file of ``cropline crop``: JSON in one of three forms.

    [[xmin, ymin, xmax, ymax], ...]                     numbers, one list per box
    [{"id": "7", "xmin": 0.1, "ymin": ...}, ...]        boxes as the image API returns them (CROPLINE_API__FIELDS__XMIN ...)
    {"boxes": [...], ...}                               a whole item of the image API (CROPLINE_API__FIELDS__BOXES)

A box that is NaN, inverted or outside the photo is read; the crop job fails it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cropline.config.settings import ApiSettings, FieldMap
from cropline.core.errors import SettingsError
from cropline.intake.manifest import manifest_row

_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_boxes(path: Path, api: ApiSettings) -> list[dict[str, Any]]:
    """Return the boxes as a manifest holds them. Raises SettingsError, which names the file and the mistake."""
    try:
        given = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"--boxes {path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise SettingsError(f"--boxes {path}: not JSON ({where})") from None
    try:
        return _boxes(given, api)
    except ValueError as wrong:
        raise SettingsError(f"--boxes {path}: {wrong}") from None


def _boxes(given: Any, api: ApiSettings) -> list[dict[str, Any]]:
    if isinstance(given, dict):
        return _mapped(given, api)
    if not isinstance(given, list):
        raise ValueError("must be a list of boxes, or an object that holds one")  # noqa: TRY004 - the file is wrong, not a call
    if all(isinstance(box, dict) for box in given):
        return _mapped({"boxes": given}, _with(api, api.fields.model_copy(update={"boxes": "boxes"})))
    for position, box in enumerate(given):
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError(
                f"box {position} is not [xmin, ymin, xmax, ymax]; give all boxes as such lists, or all as objects"
            )
    plain = api.model_copy(update={"fields": FieldMap(), "box_format": "xyxy"})
    return _mapped({"boxes": [dict(zip(_EDGES, box, strict=True)) for box in given]}, plain)


def _with(api: ApiSettings, fields: FieldMap) -> ApiSettings:
    return api.model_copy(update={"fields": fields})


def _mapped(item: dict[str, Any], api: ApiSettings) -> list[dict[str, Any]]:
    fields = api.fields
    row = manifest_row(0, item, api)
    unreadable = [name for name in row["unreadable"] if name.startswith("boxes")]
    if unreadable:
        raise ValueError(f"{', '.join(unreadable[:3])} cannot be read: sides must be numbers, and ids text")
    boxes: list[dict[str, Any]] | None = row["boxes"]
    if not boxes:
        raise ValueError(f"holds no boxes at {fields.boxes}")
    missing = [name for name in _EDGES if all(box[name] is None for box in boxes)]
    if missing:
        raise ValueError(f"no box has a value at {getattr(fields, missing[0])} ({missing[0]})")
    return boxes

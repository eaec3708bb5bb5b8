"""Read an item's boxes, in any known form, as xmin, ymin, xmax, ymax in 0..1 or pixels.

Forms: a list of objects, a list of lists, an object keyed by box id, an object of parallel lists, a single box.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from cropline.config.api import ApiSettings
from cropline.config.field_map import FieldMap
from cropline.intake.item_values import UNREADABLE, read_number, read_text
from cropline.intake.json_bytes import read_json

Getter = Callable[[Any], Any]
Given = tuple[str | None, Any]
"""A raw box, and the key that held it, if any."""

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_FIELDS = ("box_id", *_EDGES, "label", "score")
_ROOT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def given_boxes(value: Any, fields: FieldMap) -> list[Given] | None:
    """Return the boxes one by one; None when the form is unknown. A text may be the JSON of a form."""
    if isinstance(value, str):
        value = _from_json(value)
    if isinstance(value, dict):
        names = {match[0] for name in (*_FIELDS, "polygon") if (match := _ROOT.match(getattr(fields, name)))}
        if not names & set(value):
            return _each([(str(key), box) for key, box in value.items()])
        if not any(isinstance(value.get(name), list) for name in names - {fields.polygon}):
            return [(None, value)]
        lists = {name: part for name, part in value.items() if isinstance(part, list)}
        if len({len(part) for part in lists.values()}) > 1:
            return None
        return [(None, dict(zip(lists, parts, strict=True))) for parts in zip(*lists.values(), strict=True)]
    return _each([(None, box) for box in value]) if isinstance(value, list) else None


def _from_json(text: str) -> Any:
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return read_json(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return None


def _each(boxes: list[Given]) -> list[Given] | None:
    return boxes if all(isinstance(box, dict | list) for _, box in boxes) else None


def read_box(
    given: Given, api: ApiSettings, getters: Mapping[str, Getter], size: tuple[float | None, float | None]
) -> tuple[dict[str, Any], list[str]]:
    """Return one box in the form of schemas.BOX, and those of our fields that could not be read.

    ``size``: the declared width and height of the photo. A rotated box needs it, unless boxes are in pixels.
    """
    key, box = given
    unreadable: list[str] = []
    plain = isinstance(box, dict)

    def read(name: str, convert: Callable[[Any], Any]) -> Any:
        found = getters[name](box if plain else _named(box, name, api.fields))
        value = UNREADABLE if found is UNREADABLE else convert(found)
        if value is UNREADABLE:
            unreadable.append(name)
            return None
        return value

    row = {"box_id": read("box_id", read_text), "label": read("label", read_text), "score": read("score", read_number)}
    row["box_id"] = key if row["box_id"] is None else row["box_id"]
    if api.box_format == "polygon":
        corners = read("polygon", lambda value: UNREADABLE if (c := _polygon(value)) is None else c) or (None,) * 4
    else:
        corners = _corners([read(name, read_number) for name in _EDGES], api.box_format)
    turn = read("rotation", read_number)
    if turn is not None and turn % 360 != 0:
        turned = _turned(corners, turn, api, size)
        if turned is None:
            unreadable.append("rotation")
        else:
            corners = turned
    if api.coordinates == "percent":
        corners = tuple(None if edge is None else edge / 100 for edge in corners)
    return {**row, **dict(zip(_EDGES, corners, strict=True))}, unreadable


def _named(box: Any, name: str, fields: FieldMap) -> Any:
    """Convert a bare list so that plain paths find its fields: the four edges in the order of the format."""
    path = getattr(fields, name)
    if not _ROOT.fullmatch(path):
        return box
    return {path: box[_EDGES.index(name)]} if name in _EDGES and _EDGES.index(name) < len(box) else {}


Corners = tuple[float | None, ...]


def _corners(values: list[float | None], box_format: str) -> Corners:
    first, second, third, fourth = values
    if first is None or second is None or third is None or fourth is None or box_format == "xyxy":
        return tuple(values) if box_format == "xyxy" else (None,) * 4
    if box_format == "xywh":
        return first, second, first + third, second + fourth
    return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2


def _polygon(value: Any) -> Corners | None:
    """Return the bounding box of [[x, y], ...], a flat list of numbers, several of these, or objects with x and y.

    A missing x or y of an object is 0: some services leave out zeros. A text is JSON, or numbers as in SVG's points.
    """
    if value is None:
        return (None,) * 4
    points = _points(value)
    if points is None or len(points) < 2:
        return None
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def _points(value: Any) -> list[tuple[float, float]] | None:
    if isinstance(value, str):
        value = _from_json(value) or re.split(r"[\s,]+", value.strip())
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(part, dict) for part in value):
        small = [{name.lower(): number for name, number in part.items()} for part in value]
        if not any("x" in part or "y" in part for part in small):
            return None
        return _pairs([part.get(name, 0) for part in small for name in ("x", "y")])
    if all(isinstance(part, list) for part in value):
        parts = [_pairs(part) if not any(isinstance(x, list) for x in part) else _points(part) for part in value]
        return None if any(part is None for part in parts) else [point for part in parts for point in part or ()]
    return _pairs(value)


def _pairs(flat: list[Any]) -> list[tuple[float, float]] | None:
    numbers = [read_number(number) for number in flat]
    if len(numbers) % 2 or not all(isinstance(number, float) and math.isfinite(number) for number in numbers):
        return None
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _turned(
    corners: Corners, degrees: float, api: ApiSettings, size: tuple[float | None, float | None]
) -> Corners | None:
    """Return the bounding box of a clockwise rotated box: around its first corner in xywh, else its centre.

    None when the settings refuse rotated boxes, or the photo's aspect is unknown: in 0..1 coordinates a rotation skews.
    """
    if api.rotation == "refuse" or not math.isfinite(degrees):
        return None
    if api.box_format == "polygon":
        return corners  # its points are rotated already
    wide, high = (1.0, 1.0) if api.coordinates == "pixels" else size
    left, top, right, bottom = corners
    if None in corners or not wide or not high:
        return None
    assert left is not None and top is not None and right is not None and bottom is not None  # noqa: PT018
    x, y = (left, top) if api.box_format == "xywh" else ((left + right) / 2, (top + bottom) / 2)
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    xs, ys = [], []
    for corner_x, corner_y in ((left, top), (right, top), (left, bottom), (right, bottom)):
        dx, dy = (corner_x - x) * wide, (corner_y - y) * high
        xs.append(x + (dx * cos - dy * sin) / wide)
        ys.append(y + (dx * sin + dy * cos) / high)
    return min(xs), min(ys), max(xs), max(ys)

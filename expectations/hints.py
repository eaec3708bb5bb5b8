"""Hints for broken rules: the values that break a rule, and the setting to look at. Safe to show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cropline.config.expectations import ExpectationSettings
from cropline.core.scrub import one_line
from cropline.intake.json_bytes import LEFT_OUT
from expectations.manifest import VERSION_RULES, row_rules

if TYPE_CHECKING:
    import pyarrow as pa

_EXAMPLES = 3
_NAMED = 12  # fields of an item that a hint names
_SIDES = ("xmin", "ymin", "xmax", "ymax")
# Rules whose setting is not the path of their field.
_SETTINGS = {
    "url_host_allowed": "CROPLINE_FETCH__ALLOWED_HOSTS",
    "captured_at_recent": "CROPLINE_EXPECTATIONS__MAX_AGE",
    "captured_at_not_ahead": "CROPLINE_EXPECTATIONS__MAX_AHEAD",
    "updated_at_not_ahead": "CROPLINE_EXPECTATIONS__MAX_AHEAD",
    "coordinates_known": "CROPLINE_API__COORDINATES",
    "orientation_known": "CROPLINE_API__ORIENTATION",
    "boxes_not_too_many": "CROPLINE_EXPECTATIONS__MAX_BOXES",
    "boxes_in_range": "CROPLINE_API__COORDINATES",
    "box_ids_unique": "CROPLINE_API__FIELDS__BOX_ID",
    "boxes_readable": "CROPLINE_API__FIELDS__XMIN and the other sides",
    "boxes_finite": "CROPLINE_API__FIELDS__XMIN and the other sides",
    "boxes_ordered": "CROPLINE_API__FIELDS__XMIN and the other sides",
    "boxes_have_area": "CROPLINE_API__FIELDS__XMIN and the other sides",
}


def hints(rows: pa.Table, bad: Mapping[int, list[str]]) -> dict[str, str]:
    """Return broken rule -> "values; look at SETTING", from the first bad rows of each. ``rows``: schemas.MANIFEST."""
    fields = _fields()
    return {name: _hint(name, fields.get(name, ""), _rows(rows, found)) for name, found in first_rows(bad).items()}


def first_rows(bad: Mapping[int, list[str]]) -> dict[str, list[int]]:
    """Return broken rule -> the first rows that break it, from which hints are made."""
    first: dict[str, list[int]] = {}
    for row, names in bad.items():
        for name in names:
            if len(first.setdefault(name, [])) < _EXAMPLES:
                first[name].append(row)
    return first


def setting_of(rule: str) -> str:
    """Return the setting to look at when a rule on one field is broken."""
    return _SETTINGS.get(rule) or f"CROPLINE_API__FIELDS__{_fields()[rule].upper()}"


def _fields() -> dict[str, str]:
    rules = (*row_rules(ExpectationSettings(), hosts=("any",), stores=()), *VERSION_RULES)
    return {rule.name: rule.field for rule in rules}


def _rows(rows: pa.Table, numbers: list[int]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    return list(rows.filter(pc.is_in(rows["row"], pa.array(numbers, pa.int64()))).to_pylist())


def _hint(rule: str, field: str, rows: list[dict[str, Any]]) -> str:
    if field == "unreadable":
        unread = list(dict.fromkeys(name for row in rows for name in row["unreadable"] or ()))
        names = [name for name in unread if not name.startswith("boxes[")] or unread
        field = names[0] if names else "image_id"
        if field in ("item", "map"):
            return one_line(_whole(field, rows), 400)
    told = list(dict.fromkeys(_value(row, field) for row in rows))
    setting = _SETTINGS.get(rule) or f"CROPLINE_API__FIELDS__{field.upper()}"
    return one_line(f"{field} is {' or '.join(told)}; look at {setting}", 400)


def _value(row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    if field == "boxes" and value:
        box = value[0] or {}
        return ", ".join(f"{side} {box.get(side)}" for side in _SIDES)
    if value is None:
        item = _item(row)
        if isinstance(item, dict) and field in item:
            told = one_line(json.dumps(item[field]), 60)
            # When nothing was unreadable, the configured path does not lead to this field.
            return told if row["unreadable"] or item[field] is None else f"not found, but the item has {field} {told}"
        return (
            f"missing in an item of {', '.join(sorted(map(str, item))[:_NAMED])}" if item else "missing or unreadable"
        )
    return one_line(str(value), 60)


def _whole(field: str, rows: list[dict[str, Any]]) -> str:
    """Return why whole items could not be read: the user's function failed, or a part was left out."""
    if field == "map":
        why = [json.loads(row["attributes"] or "{}").get("map", "") for row in rows]
    else:
        why = [told for row in rows for told in _left_out(row.get("raw") or "")[:1]]
    return " or ".join(dict.fromkeys(why)) or "the item is not an object, or too large"


def _left_out(raw: str) -> list[str]:
    mark = json.dumps(LEFT_OUT)[1:-1]
    return [json.loads(f'"{part.split(chr(34))[0]}"') for part in raw.split(mark)[1:]]


def _item(row: dict[str, Any]) -> dict[str, Any]:
    """Return the raw item as a dict; empty when it is not stored or has no fields."""
    found = json.loads(row.get("raw") or "null")
    return found if isinstance(found, dict) else {}

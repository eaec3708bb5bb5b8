"""What a page of crops shows: the filter, the order, and where the page begins. All of it comes from a URL."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any, Literal, get_args

from cropline.catalogue.rows import equalling
from cropline.core.errors import OptionError

Sort = Literal["newest", "blurred", "dark", "bright", "small", "low_score"]
SORTS: tuple[Sort, ...] = get_args(Sort)
SORT_COLUMNS: dict[Sort, tuple[str, bool]] = {
    "newest": ("captured_at", True),
    "blurred": ("sharpness", False),
    "dark": ("luminance", False),
    "bright": ("luminance", True),
    "small": ("bytes", False),
    "low_score": ("score", False),
}
"""The column of each order, and whether its greatest values come first."""

_TEXTS = ("source", "store_id", "camera_id", "label", "profile", "status", "reason")
_LONGEST = 300


@dataclass(frozen=True)
class CropFilter:
    """Selects rows of the catalogue. Empty text and None select any. Days are UTC days of the capture."""

    source: str = ""
    store_id: str = ""
    camera_id: str = ""
    label: str = ""
    profile: str = ""
    status: str = ""
    reason: str = ""
    since: date | None = None
    until: date | None = None  # inclusive
    sharpness_min: float | None = None
    sharpness_max: float | None = None
    luminance_min: float | None = None
    luminance_max: float | None = None
    sort: Sort = "newest"

    @property
    def sql(self) -> str:
        """The condition on the rows of a day, as SQL; times are left to the choice of days."""
        clauses = [equalling(**{name: value}) for name in _TEXTS if (value := getattr(self, name))]
        for column in ("sharpness", "luminance"):
            for sign, limit in ((">=", getattr(self, f"{column}_min")), ("<=", getattr(self, f"{column}_max"))):
                if limit is not None:
                    clauses.append(f"{column} {sign} {limit!r}")
        return " AND ".join(clauses) or "true"

    def days(self, known: list[date]) -> list[date]:
        """Return those of the known days that it selects, newest first.

        In another order than newest first, a page would have to read all days: it then reads the newest day only,
        unless days were chosen.
        """
        chosen = [
            day
            for day in sorted(known, reverse=True)
            if (self.since is None or day >= self.since) and (self.until is None or day <= self.until)
        ]
        return chosen if self.sort == "newest" or self.since or self.until else chosen[:1]

    def query(self, **changes: Any) -> dict[str, str]:
        """Return it as parameters of a URL, with changes; what selects any is left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)} | changes
        return {name: str(value) for name, value in values.items() if value not in (None, "") and value != "newest"}


def parse(query: Mapping[str, str]) -> CropFilter:
    """Return the filter of a URL's parameters. Raise OptionError, which names the parameter."""
    values: dict[str, Any] = {}
    for name in _TEXTS:
        text = query.get(name, "")
        if len(text) > _LONGEST or "\x00" in text:
            raise OptionError(f"{name}: longer than {_LONGEST} characters, or not text")
        values[name] = text
    for name in ("since", "until"):
        values[name] = _day(name, query.get(name, ""))
    for name in ("sharpness_min", "sharpness_max", "luminance_min", "luminance_max"):
        values[name] = _number(name, query.get(name, ""))
    sort = query.get("sort", "") or "newest"
    if sort not in SORTS:
        raise OptionError(f"sort: not one of {', '.join(SORTS)}")
    return CropFilter(**values, sort=sort)


def _day(name: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise OptionError(f"{name}: not a day such as 2026-03-02") from None


def _number(name: str, text: str) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        number = float("nan")
    if number is not None and not abs(number) < 1e12:
        raise OptionError(f"{name}: not a number")
    return number


@dataclass(frozen=True)
class Place:
    """The last row of a page: the next page begins after it. ``value``: its value in the order's column."""

    value: float | None
    source: str
    image_id: str
    profile: str
    box_index: int

    def token(self) -> str:
        """Return it as text for a URL."""
        values = [self.value, self.source, self.image_id, self.profile, self.box_index]
        return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def place_of(row: Mapping[str, Any], sort: Sort) -> Place:
    """Return the place of a row."""
    value = row[SORT_COLUMNS[sort][0]]
    if isinstance(value, datetime):
        value = value.timestamp()
    return Place(value, row["source"], row["image_id"], row["profile"], row["box_index"])


def parse_place(token: str) -> Place | None:
    """Return the place of a URL; None for empty text. Raise OptionError for anything else than a token."""
    if not token:
        return None
    try:
        value, source, image_id, profile, box_index = json.loads(base64.urlsafe_b64decode(token.encode()))
        names = (source, image_id, profile)
        sound = all(isinstance(name, str) for name in names) and isinstance(box_index, int)
        if not sound or not isinstance(value, int | float | None) or isinstance(value, bool):
            raise ValueError
        return Place(None if value is None else float(value), source, image_id, profile, box_index)
    except (ValueError, TypeError):
        raise OptionError("after: not a page of this gallery; begin at the first page") from None


def day_of(place: Place | None) -> date | None:
    """Return the UTC day of a place in the order newest first."""
    return datetime.fromtimestamp(place.value, UTC).date() if place is not None and place.value is not None else None

"""Build the requests to a listing: query or body, with the position and the start time filled in."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from cropline.config.api import ApiSettings

_PLACE = re.compile(r"\{(since|cursor|page|offset|limit)\}")
_NOTHING = object()


@dataclass(frozen=True)
class Position:
    """The start of a page in the listing.

    ``url``: the full address that the API named. ``value``: a cursor, page or offset.
    """

    url: str | None = None
    value: JsonValue = None


@dataclass(frozen=True)
class Ask:
    """One request."""

    url: str
    params: dict[str, Any]
    json: dict[str, Any] | None


def since_text(moment: datetime, api: ApiSettings) -> str | int:
    """Return a time in the API's format, rounded down."""
    local = moment.astimezone(api.zone)
    match api.since_format:
        case "iso":
            return moment.astimezone(UTC).isoformat()
        case "iso_z":
            return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case "date":
            return local.strftime("%Y-%m-%d")
        case "epoch_s":
            return math.floor(moment.timestamp())
        case "epoch_ms":
            return math.floor(moment.timestamp() * 1000)
        case pattern:
            return local.strftime(pattern)


def is_since_sent(api: ApiSettings) -> bool:
    """Return whether requests contain the start time."""
    if "since" in _named(api.body) | _named(api.params):
        return True
    return bool(api.since_param) and api.body is None


def build(api: ApiSettings, since: str | int, position: Position, limit: int) -> Ask:
    """Return the request for one page. A value that fills a placeholder is not sent as a separate parameter too."""
    if position.url is not None:
        return Ask(position.url, {}, _body(api, since, position, limit) if api.method == "POST" else None)
    url = f"{api.url}{'' if api.images_path.startswith('/') or not api.images_path else '/'}{api.images_path}"
    values = _values(api, since, position, limit)
    params = _filled(api.params, values)
    if api.method == "GET":
        taken = _named(api.params)
        own = {name: value for key, (name, value) in _own(api, since, position, limit).items() if key not in taken}
        return Ask(url, {**own, **params}, None)
    return Ask(url, params, _body(api, since, position, limit))


def _body(api: ApiSettings, since: str | int, position: Position, limit: int) -> dict[str, Any]:
    """Return the body. A custom body gets since and limit only where it names them; the position is always sent."""
    own = _own(api, since, position, limit)
    if api.body is None:
        return dict(own.values())
    taken = _named(api.body) | _named(api.params)
    place = {name: value for key, (name, value) in own.items() if key == "position" and not taken & _POSITIONS}
    return {**_filled(api.body, _values(api, since, position, limit)), **place}


_POSITIONS = {"cursor", "page", "offset"}


def _own(api: ApiSettings, since: str | int, position: Position, limit: int) -> dict[str, tuple[str, Any]]:
    """Return {name: (parameter, value)} of the values that are sent as separate parameters."""
    names = {"cursor": api.cursor_param, "page_number": api.page_param, "offset": api.offset_param}
    own: dict[str, tuple[str, Any]] = {}
    if api.since_param:
        own["since"] = (api.since_param, since)
    if api.limit_param:
        own["limit"] = (api.limit_param, limit)
    taken = _named(api.params) & _POSITIONS
    if api.paginator in names and position.value is not None and not taken:
        own["position"] = (names[api.paginator], position.value)
    return own


def _values(api: ApiSettings, since: str | int, position: Position, limit: int) -> dict[str, Any]:
    """Return the value of each placeholder. cursor is the position, whatever the paginator counts."""
    value = position.value
    number = value if isinstance(value, int) else 0
    page = number // limit + (api.first_page or 0) if api.paginator == "offset" else value
    return {
        "since": since,
        "limit": limit,
        "cursor": _NOTHING if value is None else value,
        "page": _NOTHING if page is None else page,
        "offset": _NOTHING if value is None else value,
    }


def _named(value: Any) -> set[str]:
    """Return the placeholders in a JSON value."""
    if isinstance(value, str):
        return set(_PLACE.findall(value))
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_named, parts))


def _filled(value: Any, values: dict[str, Any]) -> Any:
    """Return the value with its placeholders filled in.

    A text that is one placeholder becomes the value itself, so a number stays a number. A member of an object
    is left out when its value is missing (a cursor on the first page).
    """
    if isinstance(value, dict):
        filled = {name: _filled(part, values) for name, part in value.items()}
        return {name: part for name, part in filled.items() if part is not _NOTHING}
    if isinstance(value, list):
        return [None if part is _NOTHING else part for part in (_filled(part, values) for part in value)]
    if not isinstance(value, str):
        return value
    alone = _PLACE.fullmatch(value)
    if alone:
        return values[alone[1]]
    return _PLACE.sub(lambda match: "" if values[match[1]] is _NOTHING else str(values[match[1]]), value)

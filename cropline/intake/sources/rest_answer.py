"""Read an answer of a listing: its items, its total and its next page, each by a JSONPath of the settings."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from pydantic import JsonValue

from cropline.config.api import ApiSettings
from cropline.core.errors import ApiRefused
from cropline.intake.sources.rest_auth import is_downgrade, is_same_server
from cropline.intake.sources.rest_request import Position
from cropline.intake.sources.rest_wire import Answer

if TYPE_CHECKING:
    from jsonpath_ng import JSONPath

_PARENT = "parent"
_MORE_WORDS = ("has_more", "hasMore", "more", "has_next", "hasNext", "hasNextPage", "has_next_page")
_NEXT_WORDS = (
    "next", "next_url", "nextUrl", "next_page", "nextPage", "next_cursor", "nextCursor",
    "next_page_token", "nextPageToken", "nextLink", "@odata.nextLink",
)  # fmt: skip
_WRAPPERS = ("meta", "pagination", "paging", "links", "_links", "page_info", "pageInfo", "response_metadata")
_LAST_WILDCARD = re.compile(r"(\[\*\]|\.\*)$")


def items_of(answer: Answer, api: ApiSettings) -> list[Any]:
    """Return the items of a page. Items of a nested listing carry their enclosing objects as ``parent``.

    Raise ApiRefused when the configured path finds nothing: that must not pass for "nothing new".
    """
    _refuse_errors(answer, api)
    selector = api.data_selector
    matches = _find(selector, answer.body, api, "DATA_SELECTOR")
    if not matches and not _is_empty(answer, api):
        raise ApiRefused(f"the image API {api.listing}: a page has no {selector!r}; check CROPLINE_API__DATA_SELECTOR")
    spread = not _LAST_WILDCARD.search(selector)
    items: list[Any] = []
    for match in matches:
        value = match.value
        found = value if isinstance(value, list) and spread else [] if value is None else [value]
        around = _around(match) if "*" in selector else None
        items += [_with_parent(item, around) for item in found]
    return items


def total_of(answer: Answer, api: ApiSettings) -> int | None:
    """Return the listing's total. Without a setting, "total" is used when it counts the selected items."""
    if api.total_path == "" or (api.total_path is None and "*" in api.data_selector):
        return None
    if api.total_path is None:
        value = answer.body.get("total") if isinstance(answer.body, dict) else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
    value = _first(api.total_path, answer.body, api, "TOTAL_PATH")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ApiRefused(
            f"the image API {api.listing}: no number at {api.total_path!r}; check CROPLINE_API__TOTAL_PATH"
        )
    return value


def has_more(answer: Answer, api: ApiSettings) -> bool | None:
    """Return whether the API says that there are more pages; None when the settings name no path."""
    if not api.has_more_path:
        return None
    value = _first(api.has_more_path, answer.body, api, "HAS_MORE_PATH")
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, bool) or value in (0, 1, None):
        return bool(value)
    raise ApiRefused(
        f"the image API {api.listing}: neither true nor false at {api.has_more_path!r}; check CROPLINE_API__HAS_MORE_PATH"
    )


def following(answer: Answer, api: ApiSettings) -> Position | None:
    """Return the position of the next page, by cursor or link; None when the page names none."""
    if has_more(answer, api) is False:
        return None
    match api.paginator:
        case "cursor":
            cursor = _first(api.cursor_path, answer.body, api, "CURSOR_PATH")
            return None if cursor in (None, "", False, 0) else Position(value=_checked_cursor(cursor, api))
        case "header_link":
            return _link(answer.links.get("next"), answer, api)
        case "next_url":
            return _link(_first(api.next_url_path, answer.body, api, "NEXT_URL_PATH"), answer, api)
        case _:
            return None


def says_its_end(answer: Answer, api: ApiSettings) -> bool:
    """Return whether a page without a next page says explicitly that it is the last."""
    if api.has_more_path:
        return True
    match api.paginator:
        case "cursor":
            return bool(_find(api.cursor_path, answer.body, api, "CURSOR_PATH"))
        case "header_link":
            return bool(answer.links)
        case "next_url":
            return bool(_find(api.next_url_path, answer.body, api, "NEXT_URL_PATH"))
        case _:
            return False


def hint_of_more(answer: Answer, api: ApiSettings) -> str | None:
    """Return a hint when a seemingly last page names a next page in a way that the settings do not read."""
    if api.has_more_path:
        return None
    if "next" in answer.links and api.paginator != "header_link":
        return "its Link header names a next page; check CROPLINE_API__PAGINATOR (header_link)"
    if not isinstance(answer.body, dict):
        return None
    read = (
        {api.cursor_path}
        if api.paginator == "cursor"
        else {api.next_url_path}
        if api.paginator == "next_url"
        else set()
    )
    for prefix, place in [("", answer.body), *((f"{w}.", answer.body.get(w)) for w in _WRAPPERS)]:
        if not isinstance(place, dict):
            continue
        for word in _MORE_WORDS:
            if place.get(word) is True:
                return f"it says {prefix}{word}: true; check CROPLINE_API__PAGINATOR and CROPLINE_API__HAS_MORE_PATH"
        for word in _NEXT_WORDS:
            named = place.get(word)
            named = named.get("href") if isinstance(named, dict) else named
            if f"{prefix}{word}" not in read and isinstance(named, str | int) and named and named is not True:
                return f"it names a next page at {prefix}{word}; check CROPLINE_API__PAGINATOR and its path setting"
    return None


def _checked_cursor(cursor: Any, api: ApiSettings) -> JsonValue:
    plain = isinstance(cursor, str | int | float) and not isinstance(cursor, bool)
    if not plain and (api.method == "GET" or isinstance(cursor, bool)):
        raise ApiRefused(
            f"the image API {api.listing}: what is at {api.cursor_path!r} is not a cursor but a {type(cursor).__name__}; "
            "check CROPLINE_API__CURSOR_PATH"
        )
    value: JsonValue = cursor
    return value


def _link(named: Any, answer: Answer, api: ApiSettings) -> Position | None:
    where = f"the image API {api.listing}"
    if named in (None, "", False):
        return None
    if not isinstance(named, str):
        raise ApiRefused(
            f"{where}: what is at {api.next_url_path!r} is not an address but a {type(named).__name__}; "
            "check CROPLINE_API__NEXT_URL_PATH"
        )
    try:
        target = urljoin(answer.url, named.strip())
        host = urlsplit(target).hostname
        downgrade = is_downgrade(target, api)
    except ValueError:
        raise ApiRefused(f"{where}: the next page's address is invalid") from None
    if is_same_server(target, api):
        return Position(url=target)
    if downgrade:
        raise ApiRefused(
            f"{where}: the next page is announced as http although CROPLINE_API__URL is https; our token does not go out "
            "in clear: have the API announce https, or set CROPLINE_API__PAGINATOR to page_number, offset or cursor"
        )
    raise ApiRefused(f"{where}: the next page is on another host, {host}")


def _refuse_errors(answer: Answer, api: ApiSettings) -> None:
    """Raise ApiRefused for errors in a 200 answer, as GraphQL sends them for full and partial failures."""
    body = answer.body
    if isinstance(body, dict) and isinstance(body.get("errors"), list) and body["errors"] and "data" in body:
        raise ApiRefused(
            f"the image API {api.listing} answers 200 with errors, as GraphQL does; check CROPLINE_API__BODY and "
            "CROPLINE_API__TOKEN"
        )


def _is_empty(answer: Answer, api: ApiSettings) -> bool:
    """Return whether a nested listing has no items because one of its outer lists is empty."""
    parts = re.split(r"\[\*\]|\.\*", api.data_selector)
    outer = ""
    for part, wildcard in zip(parts, re.findall(r"\[\*\]|\.\*", api.data_selector), strict=False):
        outer += part
        found = _find(outer or "$", answer.body, api, "DATA_SELECTOR")
        if found and all(match.value in ([], {}, None) for match in found):
            return True
        outer += wildcard
    return False


def _around(match: Any) -> dict[str, Any] | None:
    """Return the objects around a match, nearest first, each with the next as its parent.

    Each omits the field that leads to the match, which would hold the item itself and all its siblings.
    """
    chain = []
    node = match
    while node.context is not None:
        down = getattr(node.path, "fields", None)
        if isinstance(node.context.value, dict):
            chain.append({name: part for name, part in node.context.value.items() if not _leads_down(name, part, down)})
        node = node.context
    around: dict[str, Any] | None = None
    for own in reversed(chain):
        around = own if around is None else {**own, _PARENT: around}
    return around


def _leads_down(name: str, part: Any, down: tuple[str, ...] | None) -> bool:
    return name in down if down and down != ("*",) else isinstance(part, dict | list)


def _with_parent(item: Any, around: dict[str, Any] | None) -> Any:
    if around is None or not isinstance(item, dict) or _PARENT in item:
        return item
    return {**item, _PARENT: around}


def _first(path: str, body: Any, api: ApiSettings, setting: str) -> Any:
    found = _find(path, body, api, setting)
    return found[0].value if found else None


def _find(path: str, body: Any, api: ApiSettings, setting: str) -> list[Any]:
    try:
        return list(_compiled(path).find(body))
    except Exception as error:  # noqa: BLE001 -- its filters raise any error that the values cause
        why = type(error).__name__
    raise ApiRefused(
        f"the image API {api.listing}: {path!r} cannot be evaluated on a page ({why}); check CROPLINE_API__{setting}"
    )


@lru_cache(maxsize=64)
def _compiled(path: str) -> JSONPath:
    from dlt.common.jsonpath import compile_path

    return compile_path(path)

"""How the listing pages, and how it takes a start time: by names in a page, and by requests that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cropline.config.api import ApiSettings
from cropline.intake.proposals.asking import CURSORS, LIMITS, OFFSETS, PAGES, SINCES, Asker, Reply
from cropline.intake.proposals.proposal import Proposal, key, leaves, number_of, shown
from cropline.intake.proposals.times import propose_times
from cropline.intake.sources.rest_request import since_text

_NEXT_URLS = ("next", "nexturl", "nextlink", "nextpageurl", "nexthref", "odatanextlink", "nextpage")
_NEXT_CURSORS = (
    "nextcursor",
    "cursor",
    "next",
    "nexttoken",
    "nextpagetoken",
    "endcursor",
    "continuation",
    "after",
    "pagetoken",
)
_TOTALS = ("total", "totalcount", "hits", "count", "totalitems", "totalresults", "itemcount")
_MORE = ("hasmore", "hasnextpage", "hasnext", "more")
# Not midnight, which a parameter that takes dates only would accept.
_FUTURE, _PAST = datetime(2100, 1, 1, 1, 2, 3, tzinfo=UTC), datetime(1971, 1, 1, 1, 2, 3, tzinfo=UTC)
# Milliseconds first: as seconds, 2100 would lie in the past of an API that counts milliseconds.
_FORMATS = ("iso_z", "epoch_ms", "epoch_s", "date")
Count = Callable[[Any], list[Any]]


class Paging:
    """Finds paginator, page size and start time of one listing. ``items_of``: the items of a body."""

    def __init__(
        self,
        asker: Asker,
        first: Reply,
        items_of: Count,
        roles: Mapping[str, tuple[str, str]],
        base: Mapping[str, Any],
        time_format: str,
    ) -> None:
        self._asker, self._first, self._items_of, self._roles = asker, first, items_of, roles
        self._base = dict(base)  # the parameters with which the first page came
        self._fields = dict(_fields(first.body))
        self._time_format = time_format  # of the items
        self._limit: str | None = None

    def proposals(self) -> list[Proposal]:
        """Return the proposals for paging and for the start time."""
        if self._asker.api.method == "POST":
            return [*self._of_body(), *self._has_more()]
        return [*self._page_size(), *self._paginator(), *self._has_more(), *self._since()]

    def _ask(self, **params: Any) -> list[Any] | None:
        """Return the items of a request with these parameters changed; None when it is refused."""
        reply = self._asker.ask(self._base | params)
        return self._items_of(reply.body) if reply.good else None

    def _page_size(self) -> list[Proposal]:
        if "limit" in self._roles:
            self._limit = self._roles["limit"][0]
            return [Proposal("limit_param", self._limit, "it is in the given address")]
        if len(self._items_of(self._first.body)) > 1:
            for name in LIMITS:
                found = self._ask(**{name: 1})
                if found is not None and len(found) == 1:
                    self._limit = name
                    return [Proposal("limit_param", name, f"with {name}=1 the page has 1 item")]
        if self._base.get("limit"):
            return [Proposal("limit_param", "limit", "the API answers only with it", certain=False)]
        return [Proposal("limit_param", "", "no parameter changes the size of a page", certain=False)]

    def _paginator(self) -> list[Proposal]:
        if "next" in self._first.links:
            return [Proposal("paginator", "header_link", "a Link header names the next page")]
        for path, value in self._fields.items():
            if (
                key(path[-1]) in _NEXT_URLS
                and isinstance(value, str)
                and value.startswith(("http://", "https://", "/", "?"))
            ):
                return [
                    Proposal("paginator", "next_url", f"{'.'.join(path)} is the next page's address"),
                    Proposal("next_url_path", _jsonpath(path), shown(value)),
                ]
        return self._by_cursor() or self._by_number() or self._none()

    def _by_cursor(self) -> list[Proposal]:
        paths = [path for path in self._fields if key(path[-1]) in _NEXT_CURSORS and _is_cursor(self._fields[path])]
        paths.sort(key=lambda path: (self._fields[path] is None, _NEXT_CURSORS.index(key(path[-1]))))
        if not paths:
            return []
        path, value = paths[0], self._fields[paths[0]]
        if value is None and self._limit is not None and "cursor" not in self._roles:
            # The listing fits on one page: a page of one item has a next one.
            reply = self._asker.ask(self._base | {self._limit: 1})
            value = dict(_fields(reply.body)).get(path) if reply.good else None
        found = [Proposal("cursor_path", _jsonpath(path), shown(value), certain=value is not None)]
        if "cursor" in self._roles:
            found.append(Proposal("cursor_param", self._roles["cursor"][0], "it is in the given address"))
        elif value is not None:
            found += self._cursor_param(value)
        evidence = (
            f"{'.'.join(path)} is {shown(value)}" if value is not None else f"{'.'.join(path)} is there, and null"
        )
        return [Proposal("paginator", "cursor", evidence, certain=value is not None), *found]

    def _cursor_param(self, value: Any) -> list[Proposal]:
        small = {self._limit: 1} if self._limit else {}
        first = self._ask(**small)
        for name in CURSORS:
            found = self._ask(**small, **{name: value})
            if found and first and found[0] != first[0]:
                return [Proposal("cursor_param", name, f"with {name}={shown(value)} another item comes first")]
        return [Proposal("cursor_param", "cursor", "no parameter was found that takes the cursor", certain=False)]

    def _by_number(self) -> list[Proposal]:
        for role, paginator, setting in (("page", "page_number", "page_param"), ("offset", "offset", "offset_param")):
            if role in self._roles:
                name, value = self._roles[role]
                found = [
                    Proposal("paginator", paginator, f"{name}={value} is in the given address"),
                    Proposal(setting, name, ""),
                ]
                first = number_of(value)
                if role == "page" and first in (0, 1):
                    found.append(
                        Proposal("first_page", int(first), f"{name}={value} is in the given address", certain=False)
                    )
                return [*found, *self._total()]
        if self._limit is None:
            return []
        one = self._ask(**{self._limit: 1})
        for names, paginator, setting, second in (
            (PAGES, "page_number", "page_param", 2),
            (OFFSETS, "offset", "offset_param", 1),
        ):
            for name in names:
                found_items = self._ask(**{self._limit: 1, name: second})
                if one and found_items and found_items[0] != one[0] and len(found_items) == 1:
                    text = f"with {name}={second}&{self._limit}=1 another item comes"
                    return [Proposal("paginator", paginator, text), Proposal(setting, name, text), *self._total()]
        return []

    def _none(self) -> list[Proposal]:
        text = "no sign of a next page: no cursor, no link, and no parameter changes what comes"
        return [Proposal("paginator", "single_page", text, certain=False)]

    def _total(self) -> list[Proposal]:
        for path, value in self._fields.items():
            if key(path[-1]) in _TOTALS and isinstance(value, int) and value >= len(self._items_of(self._first.body)):
                text = f"{'.'.join(path)} is {value}"
                return [] if path == ("total",) else [Proposal("total_path", _jsonpath(path), text, certain=False)]
        return []

    def _has_more(self) -> list[Proposal]:
        for path, value in self._fields.items():
            if key(path[-1]) in _MORE and isinstance(value, bool):
                return [Proposal("has_more_path", _jsonpath(path), f"{'.'.join(path)} is {str(value).lower()}")]
        return []

    def _of_body(self) -> list[Proposal]:
        """A body says itself where cursor, page, offset and time go."""
        text = str(self._asker.api.body)
        if "{offset}" in text:
            return [Proposal("paginator", "offset", "the body has {offset}"), *self._total()]
        if "{page}" in text:
            return [Proposal("paginator", "page_number", "the body has {page}"), *self._total()]
        if "{cursor}" in text:
            found = self._by_cursor()
            return [one for one in found if one.setting != "cursor_param"] or [
                Proposal("paginator", "cursor", "the body has {cursor}, and no next cursor was found", certain=False)
            ]
        return self._none()

    def _since(self) -> list[Proposal]:
        if "since" in self._roles:
            name, value = self._roles["since"]
            return [Proposal("since_param", name, "it is in the given address"), self._format_of(value)]
        everything = self._items_of(self._first.body)
        taken = {self._limit, *(name for name, _ in self._roles.values())}
        for name in SINCES:
            if name in taken:
                continue
            for kind in _FORMATS:
                none = self._ask(**{name: _time(_FUTURE, kind)})
                if none is not None and none:
                    break  # it is accepted and ignored
                if none == [] and len(self._ask(**{name: _time(_PAST, kind)}) or ()) == len(everything):
                    text = f"with {name}= a time in 2100 nothing comes, with one in 1971 everything"
                    return [Proposal("since_param", name, text), Proposal("since_format", kind, text)]
        text = "no parameter limits the listing by time: each poll reads all of it"
        return [Proposal("since_param", "", text, certain=False)]

    def _format_of(self, value: str) -> Proposal:
        formats = [kind for kind in _FORMATS if (found := self._ask_since(kind)) is not None and found]
        given = propose_times([value])
        kind = given[0].value if given else "epoch_ms"
        if kind == "iso":
            kind = "date" if len(value) == 10 else "iso_z"
        if value == "0" or kind not in _FORMATS:
            kind = self._time_format if self._time_format in formats else (formats or ["epoch_s"])[0]
            text = f"{value} tells no format; {kind} is accepted, and the items' times are {self._time_format}"
            return Proposal("since_format", kind, text, certain=False)
        return Proposal("since_format", kind, f"as in the given address: {shown(value)}")

    def _ask_since(self, kind: str) -> list[Any] | None:
        return self._ask(**{self._roles["since"][0]: _time(_PAST, kind)})


def _time(moment: datetime, kind: str) -> str | int:
    return since_text(moment, ApiSettings(since_format=kind))


def _is_cursor(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value) and "://" not in value
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _fields(body: Any) -> Sequence[tuple[tuple[str, ...], Any]]:
    """Return what stands beside the items in a page."""
    return (
        [(path, value) for path, value in leaves(body) if not isinstance(value, list)] if isinstance(body, dict) else []
    )


def _jsonpath(path: Sequence[str]) -> str:
    plain = all(part.replace("_", "a").isalnum() and not part[0].isdigit() for part in path)
    return ".".join(path) if plain else "$" + "".join(f"['{part}']" for part in path)

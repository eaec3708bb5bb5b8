"""Read a listing over HTTP to its end, which is accepted only when nothing contradicts it.

When completeness.py finds a contradiction, the reading continues from the last time up to which all items were read,
with smaller pages if needed. When that does not help, it fails with one line.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from cropline.config.api import ApiSettings
from cropline.core.errors import ApiRefused, ApiUnavailable
from cropline.intake import manifest
from cropline.intake.sources import rest_item
from cropline.intake.sources.base import Answer as ItemAnswer
from cropline.intake.sources.base import Leave, Page
from cropline.intake.sources.completeness import Completeness, Sight, Trouble
from cropline.intake.sources.rest_answer import following, has_more, hint_of_more, items_of, says_its_end, total_of
from cropline.intake.sources.rest_messages import by_status, failure
from cropline.intake.sources.rest_request import Position, build, is_since_sent, since_text
from cropline.intake.sources.rest_wire import LONGEST_WAIT, Answer, StatusError, Wire

_TRIES = 3
_MOST_EMPTY_PAGES = 100
_PAST_THE_END = (404,)
_PERHAPS_PAST_THE_END = (400, 416, 422)
_NO_SUCH_PAGE = (400, 404, 416, 422, *range(500, 600))
_GOES_ON = (Trouble.SHIFTED, Trouble.FULL)
_HOPELESS = (Trouble.SAME_PAGE, Trouble.FULL)


class RestSource:
    """One listing of one API."""

    by_time = True
    notes: Sequence[str] = ()
    problems: Sequence[str] = ()  # an incomplete listing raises an error

    def __init__(self, api: ApiSettings, leave: Leave = lambda: None) -> None:
        self._api = api
        self._leave = leave
        self.finds = bool(api.item_path)

    def items(self, image_ids: Sequence[str]) -> Iterator[ItemAnswer]:
        """Yield each image, with one request per image, as rest_item.items does."""
        return rest_item.items(self._api, image_ids, self._leave)

    def pages(self, since: str) -> Generator[Page, None, None]:
        """Yield the items that changed since a time (ISO 8601), as the API returns them.

        Raise ApiUnavailable when the API does not answer after the retries, or changes faster than it can be
        read. Raise ApiRefused when an operator must act: not authorised, not JSON, no items at the configured
        path, an end that cannot be trusted.
        """
        begin = _moment(since)
        with closing(Wire(self._api)) as wire:
            tries, limit, before = 0, self._api.page_size, None
            while True:
                reading = _Reading(self._api, wire, self._leave, begin, limit, again=before)
                trouble = yield from reading.pages()
                if trouble is None:
                    return
                checker = reading.checker
                if trouble is Trouble.CAPPED:
                    limit = checker.longest
                    continue
                # The accepted pages are contiguous: all items are read up to a time that newer items followed.
                ahead = checker.safe if checker.ascending and is_since_sent(self._api) else None
                if trouble in _GOES_ON and ahead is not None and ahead > begin:
                    begin, tries = ahead, 0
                else:
                    tries += 1
                    if trouble in _HOPELESS or tries >= _TRIES or (trouble is Trouble.MORE and tries > 1):
                        raise failure(trouble, self._api, checker)
                before = checker.distinct, checker.items


class _Reading:
    """One pass through the listing from a start time."""

    def __init__(
        self,
        api: ApiSettings,
        wire: Wire,
        leave: Leave,
        since: datetime,
        limit: int,
        *,
        again: tuple[int, int] | None,
    ) -> None:
        self._api, self._wire, self._leave = api, wire, leave
        self._since, self._limit, self._again = since_text(since, api), limit, again
        self._begins = True
        self.checker = Completeness()
        self.pages_read = 0

    def pages(self) -> Generator[Page, None, Trouble | None]:
        """Yield each page once it is known to follow the previous one. Return the trouble at the end, if any."""
        match self._api.paginator:
            case "page_number":
                trouble = yield from self._numbered()
            case "offset":
                trouble = yield from self._by_offset()
            case _:
                trouble = yield from self._linked()
        if trouble is None:
            now = self.checker.distinct, self.checker.items
            trouble = self.checker.end(twice=self._again == now)
            if trouble is Trouble.MORE and self._api.total_path is None:
                return None  # "total" counts something else here
        return trouble

    def _ask(self, position: Position, *, once: bool = False) -> Answer:
        self._leave()
        try:
            return self._wire.ask(build(self._api, self._since, position, self._limit), once=once)
        except StatusError as error:
            status = error.status
        raise by_status(status, self._api, first=self.pages_read == 0)

    def _ask_numbered(self, position: Position, limit: int | None = None) -> list[Any] | None:
        """Return the items of a numbered page; None past the end."""
        self._leave()
        try:
            answer = self._wire.ask(build(self._api, self._since, position, limit or self._limit))
        except StatusError as error:
            status = error.status
        else:
            self._answer = answer
            return items_of(answer, self._api)
        if self.pages_read and (
            status in _PAST_THE_END or (status in _PERHAPS_PAST_THE_END and (self._is_short() or self._counts_all()))
        ):
            return None
        raise by_status(status, self._api, first=self.pages_read == 0)

    def _is_short(self) -> bool:
        """Whether the last page is shorter than a full one: then a refused next page is past the end.

        After a full page the API may refuse because it limits how many items of a listing it returns.
        """
        length = len(self.checker.page)
        return length < self.checker.longest or (self._limits() and length < self._limit)

    def _counts_all(self) -> bool:
        """Whether the total equals the number of items that were read.

        A "total" that no setting names may be the length of the only page.
        """
        checker = self.checker
        told = checker.total == checker.distinct
        return told and (self._api.total_path is not None or checker.distinct > checker.longest)

    def _take(self, items: list[Any], answer: Answer) -> Trouble | None:
        self.pages_read += 1
        moments = [manifest.updated_at(item, self._api) for item in items]
        return self.checker.take(Sight(self._keys(items), moments, total_of(answer, self._api)))

    def _keys(self, items: list[Any]) -> list[str]:
        return [manifest.identity(item, self._api) for item in items]

    def _page(self, items: list[Any]) -> Page:
        page, self._begins = Page(items, self._begins), False
        return page

    # By cursor or link: each page names the next.

    def _linked(self) -> Generator[Page, None, Trouble | None]:
        checker, position = self.checker, Position()
        asked, empty, counted = [position], 0, False
        while True:
            answer = self._ask(position)
            items = items_of(answer, self._api)
            if counted and self._rows_moved(asked[-2]):
                return Trouble.SHIFTED
            tail = checker.is_tail(self._keys(items))
            trouble = self._take(items, answer)
            if trouble in (Trouble.SAME_PAGE, Trouble.REPEATED):
                # The last page names a cursor too: nothing follows it.
                return None if tail or self._counts_all() else Trouble.SAME_PAGE
            if trouble is not None:
                return trouble
            yield self._page(items)
            empty = 0 if items else empty + 1
            after = following(answer, self._api)
            if after is None or (not items and after in asked):
                return self._end(answer, len(items))
            if after in asked:
                return None if self._counts_all() else Trouble.SAME_PAGE
            if empty > _MOST_EMPTY_PAGES:
                raise failure(Trouble.SAME_PAGE, self._api, checker)
            counted = _counts_items(after, checker.items)
            position = after
            asked.append(after)

    def _end(self, answer: Answer, last: int) -> Trouble | None:
        """Check whether a page that names no next page is the last one."""
        hint = hint_of_more(answer, self._api)
        if hint is not None and last:
            raise ApiRefused(f"the image API {self._api.listing}: the last page that was read is not the last: {hint}")
        full = self.pages_read == 1 and bool(self._api.limit_param) and last == self._limit
        if full and not says_its_end(answer, self._api) and self.checker.total != self.checker.distinct:
            return Trouble.FULL
        return None

    # By number.

    def _numbered(self) -> Generator[Page, None, Trouble | None]:
        checker = self.checker
        number, items = self._first_page()
        previous: int | None = None
        while True:
            if items is None:
                # After a page that is shorter than requested, request that size: a server that caps its pages, but
                # numbers them by the requested size, would skip items.
                capped = self._limits() and 0 < checker.longest < self._limit
                items = self._ask_numbered(Position(value=number), checker.longest if capped else None)
            at_end = not items
            if previous is not None and self._is_worth_a_look(at_end) and self._rows_moved(Position(value=previous)):
                return Trouble.SHIFTED
            if not items:
                return None
            if previous is not None and self._limits() and checker.longest < self._limit:
                return Trouble.CAPPED
            answer = self._answer
            tail = checker.is_tail(self._keys(items))
            trouble = self._take(items, answer)
            if trouble is not None:
                return self._unless_over(trouble, tail)
            yield self._page(items)
            if has_more(answer, self._api) is False or self._has_all():
                return None
            previous, number, items = number, number + 1, None

    def _first_page(self) -> tuple[int, list[Any] | None]:
        """Return the number of the first page, and its items if it was requested.

        Some APIs count from 0; they answer page 1 too, with their second page.
        """
        if self._api.first_page is not None:
            return self._api.first_page, None
        self._leave()
        try:
            answer = self._wire.ask(build(self._api, self._since, Position(value=0), self._limit), once=True)
        except StatusError as error:
            if error.status not in _NO_SUCH_PAGE:
                raise by_status(error.status, self._api, first=True) from None
            return 1, None
        except ApiUnavailable as error:
            if error.wait is not None and error.wait > LONGEST_WAIT:
                raise
            return 1, None  # the request for page 1 has retries
        zeroth = items_of(answer, self._api)
        self.pages_read += 1  # so that page 1 may be past the end
        first = self._ask_numbered(Position(value=1))
        self.pages_read -= 1
        if not zeroth or (first and self._keys(first) == self._keys(zeroth)):
            return 1, first or []
        self._answer = answer
        return 0, zeroth

    def _is_worth_a_look(self, at_end: bool) -> bool:
        """Return whether rows could have moved unnoticed from the page after the last one into it."""
        length = len(self.checker.page)
        may_be_full = not self._limits() or length >= self._limit or self.pages_read > 1
        return not at_end or (may_be_full and length >= min(self._limit, self.checker.longest))

    def _rows_moved(self, before: Position) -> bool:
        """Request the previous page again and return whether its rows moved."""
        self._leave()
        try:
            answer = self._wire.ask(build(self._api, self._since, before, self._limit))
        except StatusError:
            return True
        return self.checker.compare(self._keys(items_of(answer, self._api))) is not None

    def _limits(self) -> bool:
        """Return whether requests state the page size."""
        return bool(self._api.limit_param) or self._api.body is not None

    def _unless_over(self, trouble: Trouble, tail: bool) -> Trouble | None:
        """Return None when a page repeats past the end, as in some APIs: it is short, or all items were read."""
        repeats = trouble in (Trouble.SAME_PAGE, Trouble.REPEATED)
        return None if repeats and (tail or self._counts_all()) else trouble

    def _has_all(self) -> bool:
        return self._api.total_path not in (None, "") and self.checker.total == self.checker.distinct

    # By offset: each page begins with the last item of the previous one, which shows whether rows moved.

    def _by_offset(self) -> Generator[Page, None, Trouble | None]:
        checker, overlap = self.checker, self._limit > 1
        offset, previous = 0, 0
        while True:
            start = offset - 1 if overlap and offset else offset
            items = self._ask_numbered(Position(value=start)) or []
            fresh = items
            if offset and overlap:
                keys = self._keys(items)
                if checker.page[-1] not in keys:
                    return Trouble.SHIFTED
                at = keys.index(checker.page[-1])
                fresh = items[at + 1 :]
                if not fresh and (at > 0 or checker.longest == 1):
                    overlap = False  # the API returns whole pages only, or one item per page
                    continue
            elif offset and self._is_worth_a_look(not items) and self._rows_moved(Position(value=previous)):
                return Trouble.SHIFTED
            if not fresh:
                return None
            answer = self._answer
            tail = checker.is_tail(self._keys(fresh))
            trouble = self._take(fresh, answer)
            if trouble is not None:
                return self._unless_over(trouble, tail)
            yield self._page(fresh)
            if has_more(answer, self._api) is False or self._has_all():
                return None
            previous, offset = start, offset + len(fresh)


def _counts_items(position: Position, items: int) -> bool:
    """Return whether a cursor only counts items, or a link only numbers pages: rows may then move between pages."""
    value = position.value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value in (items, items + 1)
    from urllib.parse import parse_qsl, urlsplit

    query = parse_qsl(urlsplit(position.url or "").query)
    return any(name.lower() in ("page", "offset", "start", "skip", "p") and text.isdigit() for name, text in query)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ApiRefused("a listing is read from a time in ISO 8601") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

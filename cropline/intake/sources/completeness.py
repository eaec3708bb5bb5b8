"""Check that a listing read page by page is complete. It sees pages only and reports what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto


class Trouble(Enum):
    """Signs that items may be missing."""

    SAME_PAGE = auto()  # the previous page came again, item for item
    REPEATED = auto()  # a page has only items of earlier pages
    SHIFTED = auto()  # rows moved between two pages
    CAPPED = auto()  # a page that is shorter than requested is not the last one
    FULL = auto()  # the last page is full, and nothing says that it is the last
    FEWER = auto()  # fewer items came than the listing's total
    MORE = auto()  # more items came than the listing's total


@dataclass(frozen=True)
class Sight:
    """One page: the identity of each item, and what else is known.

    Items that the previous page also has are left out.
    """

    keys: Sequence[str]
    moments: Sequence[datetime | None] = ()  # when each item last changed
    total: int | None = None  # the number of items that the listing reports


class Completeness:
    """Checks the pages of one reading in order. Keeps one small hash per item."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._last: datetime | None = None
        self._totals: list[int] = []
        self.page: tuple[str, ...] = ()  # the keys of the last accepted page
        self.items = 0
        self.longest = 0
        self.ascending = True
        self.newest: datetime | None = None
        self.safe: datetime | None = None  # the latest time before ``newest``: all items up to it were read

    def take(self, sight: Sight) -> Trouble | None:
        """Check the next page. Accept it unless something is wrong with it."""
        keys = tuple(sight.keys)
        if keys and keys == self.page:
            return Trouble.SAME_PAGE
        hashes = [hash(key) for key in keys]
        if keys and self._seen.issuperset(hashes):
            return Trouble.REPEATED
        if sight.total is not None:
            self._totals.append(sight.total)
        self._seen.update(hashes)
        self.page, self.items, self.longest = keys, self.items + len(keys), max(self.longest, len(keys))
        for moment in sight.moments:
            self._note(moment)
        return None

    def compare(self, keys: Sequence[str]) -> Trouble | None:
        """Compare the last page, read again after the next one: rows of the next page may have moved into it.

        Rows inserted before it only push others to the next page, where they repeat: nothing is missed.
        """
        again = tuple(keys)
        pushed = range(1, len(again)) if len(again) >= len(self.page) else ()
        if again == self.page or any(
            again[n:] == self.page[: len(again) - n] and not set(again[:n]) & set(self.page) for n in pushed
        ):
            return None
        return Trouble.SHIFTED

    def is_tail(self, keys: Sequence[str]) -> bool:
        """Return whether these are the last items of the last page, and fewer than a page: the listing has ended."""
        return 0 < len(keys) < self.longest and self.page[-len(keys) :] == tuple(keys)

    @property
    def total(self) -> int | None:
        """The last total that the listing reported."""
        return self._totals[-1] if self._totals else None

    @property
    def distinct(self) -> int:
        return len(self._seen)

    def end(self, *, twice: bool = False) -> Trouble | None:
        """Check the total. ``twice``: two readings gave the same numbers, so repeated rows are the API's own."""
        if not self._totals or self.distinct == self._totals[-1]:
            return None
        if self.distinct < min(self._totals):
            return None if twice and self.items >= self._totals[-1] else Trouble.FEWER
        return Trouble.MORE if self.distinct > max(self._totals) else None

    def _note(self, moment: datetime | None) -> None:
        if moment is None:
            return
        self.ascending = self.ascending and (self._last is None or moment >= self._last)
        self._last = moment
        if self.newest is None or moment > self.newest:
            self.newest, self.safe = moment, self.newest

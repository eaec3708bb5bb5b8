"""Whether a listing that is read page by page is whole. Sees pages only, and says what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto


class Trouble(Enum):
    """What shows that items may be missing."""

    SAME_PAGE = auto()  # the page before came again, item for item
    REPEATED = auto()  # a page holds nothing but items of earlier pages
    SHIFTED = auto()  # rows moved between two pages
    CAPPED = auto()  # a page shorter than asked for is not the last one
    FULL = auto()  # the last page is full, and nothing says that it is the last
    FEWER = auto()  # fewer items came than the listing says it has
    MORE = auto()  # more items came than the listing says it has


@dataclass(frozen=True)
class Sight:
    """One page: the identity of each item, and what else is known. Items that it shares with the page before are left out."""

    keys: Sequence[str]
    moments: Sequence[datetime | None] = ()  # when each item last changed
    total: int | None = None  # what the listing says it has


class Completeness:
    """Looks at the pages of one reading in their order. Holds one small hash an item."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._last: datetime | None = None
        self._totals: list[int] = []
        self.page: tuple[str, ...] = ()  # the keys of the last page that was taken
        self.items = 0
        self.longest = 0
        self.ascending = True
        self.newest: datetime | None = None
        self.safe: datetime | None = None  # the newest moment below ``newest``: all items up to it were read

    def take(self, sight: Sight) -> Trouble | None:
        """Look at the next page. A page that is in trouble is not taken."""
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
        """The last page, read again after the next one: whether rows may have slipped from the next one into it.

        Rows that were put in before it only push others on to the next page, where they come again: nothing is missed.
        """
        again = tuple(keys)
        pushed = range(1, len(again)) if len(again) >= len(self.page) else ()
        if again == self.page or any(
            again[n:] == self.page[: len(again) - n] and not set(again[:n]) & set(self.page) for n in pushed
        ):
            return None
        return Trouble.SHIFTED

    def is_tail(self, keys: Sequence[str]) -> bool:
        """Whether these are the last items of the last page, and fewer than a page: the listing stands at its end."""
        return 0 < len(keys) < self.longest and self.page[-len(keys) :] == tuple(keys)

    @property
    def total(self) -> int | None:
        """The last total that the listing gave."""
        return self._totals[-1] if self._totals else None

    @property
    def distinct(self) -> int:
        return len(self._seen)

    def end(self, *, twice: bool = False) -> Trouble | None:
        """Judge the total. ``twice``: it was read before and came to the same, so rows that repeat are the API's own."""
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

"""What every kind of source gives to a poll."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Page:
    """Items as the source gives them, in its order.

    Between the items of all pages so far none is missing: a page is given only once that is known. ``begins``: the
    listing was begun here, for the first time or again, so that its order begins anew.
    """

    items: list[Any]
    begins: bool = False


class Source(Protocol):
    """One source of items. Raises ApiUnavailable or ApiRefused, and nothing else."""

    def pages(self, since: str) -> Generator[Page, None, None]:
        """The items that changed since a moment (ISO 8601), to their end. An end without an error is complete."""
        ...

"""The interface of sources."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Page:
    """Items as the source returns them, in its order.

    A page is yielded only when it is known that no item is missing between the pages so far. ``begins``: the
    listing was started here, for the first time or again, so its order begins again.
    """

    items: list[Any]
    begins: bool = False


class Source(Protocol):
    """One source of items. It raises only ApiUnavailable or ApiRefused."""

    def pages(self, since: str) -> Generator[Page, None, None]:
        """Yield all items that changed since a time (ISO 8601). An end without an error is complete."""
        ...

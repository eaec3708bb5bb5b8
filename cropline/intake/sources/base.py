"""The interface of sources: one for every kind of CROPLINE_API__KIND."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Leave = Callable[[], None]
"""Called before each request; returns when the rate limit allows one."""

Answer = tuple[str, dict[str, Any] | None]
"""An image's id and its item; None: the source has no such image."""


@dataclass(frozen=True)
class Page:
    """Items as the source returns them, in its order.

    A page is yielded only when it is known that no item is missing between the pages so far. ``begins``: the
    listing was started here, for the first time or again, so its order begins again. ``read``: files that end with
    this page, and their versions; the next poll leaves them out once the page's items are registered. ``list_after``:
    everything up to this name was read, and is not listed again.
    """

    items: list[Any]
    begins: bool = False
    read: Mapping[str, str] = field(default_factory=dict)
    list_after: str | None = None


class Memory(Protocol):
    """What earlier polls registered of a source of files."""

    def unread(self, files: Mapping[str, str]) -> set[str]:
        """Return the names of those files whose version was not registered yet."""
        ...

    def list_after(self) -> str | None:
        """Return the last ``list_after`` of a page."""
        ...


class Source(Protocol):
    """One source of items. It raises only ApiUnavailable or ApiRefused, and SettingsError when it is opened."""

    by_time: bool
    """Whether ``since`` limits what is listed. If not, the source remembers files, and ``since`` only bounds their age."""
    finds: bool
    """Whether ``items`` can be used."""

    def pages(self, since: str) -> Generator[Page, None, None]:
        """Yield all items that changed since a time (ISO 8601)."""
        ...

    def items(self, image_ids: Sequence[str]) -> Iterator[Answer]:
        """Yield each image by its id. Only when ``finds``."""
        ...

    @property
    def problems(self) -> Sequence[str]:
        """What ``pages`` could not read, one line each. When it is empty, an end without an error is complete."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What is not read yet and needs no repair, one line each."""
        ...

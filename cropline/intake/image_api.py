"""The image API as a poll and a backfill read it. How it is asked stands in sources/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from cropline.config.api import ApiSettings
from cropline.intake.sources.base import Source
from cropline.intake.sources.rest import RestSource


def open_source(api: ApiSettings, leave: Callable[[], None] = lambda: None) -> Source:
    """The source that the settings name. ``leave`` is called before each request and returns when one may be made."""
    return RestSource(api, leave)


def pages(api: ApiSettings, since: str, leave: Callable[[], None] = lambda: None) -> Iterator[list[Any]]:
    """The items updated since a moment (ISO 8601), a page at a time, as the API gives them.

    Ends after ``api.max_pages``; the caller sees from the number of pages that there may be more. Raises ApiUnavailable,
    ApiRefused, SettingsError.
    """
    with closing(open_source(api, leave).pages(since)) as found:
        for number, page in enumerate(found, start=1):
            yield page.items
            if number >= api.max_pages:
                return

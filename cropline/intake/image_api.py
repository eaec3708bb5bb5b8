"""The listing of the image API, as polls and backfills read it. sources/ sends the requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from cropline.config.api import ApiSettings
from cropline.intake.sources.base import Source
from cropline.intake.sources.rest import RestSource


def open_source(api: ApiSettings, leave: Callable[[], None] = lambda: None) -> Source:
    """Return the source that the settings name. Each request waits until ``leave`` returns."""
    return RestSource(api, leave)


def pages(api: ApiSettings, since: str, leave: Callable[[], None] = lambda: None) -> Iterator[list[Any]]:
    """Yield the items updated since a time (ISO 8601), one page at a time, as the API returns them.

    Stop after ``api.max_pages``; when the caller got that many, there may be more. Raise ApiUnavailable, ApiRefused or
    SettingsError.
    """
    with closing(open_source(api, leave).pages(since)) as found:
        for number, page in enumerate(found, start=1):
            yield page.items
            if number >= api.max_pages:
                return

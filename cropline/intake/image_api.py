"""The listing of the settings' source, as polls and backfills read it. sources/ has the kinds of sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from cropline.config.api import ApiSettings
from cropline.core.errors import SettingsError
from cropline.intake.sources.base import Leave, Source


def open_source(api: ApiSettings, leave: Leave = lambda: None) -> Source:
    """Return the source that the settings name. Each request waits until ``leave`` returns. Raise SettingsError."""
    check_is_set(api)
    if api.kind == "python":
        from cropline.intake.sources.python_reader import PythonSource

        return PythonSource(api, leave)
    from cropline.intake.sources.rest import RestSource

    return RestSource(api, leave)


def check_is_set(api: ApiSettings) -> None:
    """Raise SettingsError when no source is set."""
    if api.is_set:
        return
    if api.kind == "python":
        raise SettingsError("CROPLINE_API__READER: kind python needs it: package.module:function")
    raise SettingsError("CROPLINE_API__URL: no image API is set; give its base address, http(s)://host[:port]")


def pages(api: ApiSettings, since: str, leave: Leave = lambda: None) -> Iterator[list[Any]]:
    """Yield the items updated since a time (ISO 8601), one page at a time, as the source returns them.

    Stop after ``api.max_pages``; when the caller got that many, there may be more. Raise ApiUnavailable, ApiRefused or
    SettingsError.
    """
    with closing(open_source(api, leave).pages(since)) as found:
        for number, page in enumerate(found, start=1):
            yield page.items
            if number >= api.max_pages:
                return


def spans(moments: Sequence[datetime], apart: timedelta) -> list[tuple[datetime, datetime]]:
    """Return spans (first, last) of the times; a gap of more than ``apart`` begins a new span."""
    found: list[tuple[datetime, datetime]] = []
    for moment in sorted(moments):
        if found and moment - found[-1][1] <= apart:
            found[-1] = (found[-1][0], moment)
        else:
            found.append((moment, moment))
    return found


def since(api: ApiSettings, moment: datetime | None) -> str:
    """Return the start of a listing that contains an image updated at this time: the API may exclude the start."""
    return api.start if moment is None else (moment - timedelta(seconds=1)).astimezone(UTC).isoformat()

"""The listing of the settings' source, as polls and backfills read it. sources/ has the kinds of sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from cropline.config.api import ApiSettings
from cropline.core.errors import ApiRefused, SettingsError
from cropline.core.store_spec import StoreSpec
from cropline.intake.sources.base import Leave, Memory, Source


def open_source(
    api: ApiSettings,
    leave: Leave = lambda: None,
    memory: Memory | None = None,
    spec_of: Callable[[str], StoreSpec] = StoreSpec,
) -> Source:
    """Return the source that the settings name. Each request to an API waits until ``leave`` returns.

    ``memory``: the files that were read before; None reads every file. ``spec_of``: from a bucket's address to the way to
    open it (Settings.bucket_spec). Raise SettingsError.
    """
    check_is_set(api)
    if api.kind == "files" and api.format != "yolo":
        from cropline.intake.sources.files import FilesSource

        return FilesSource(api, memory, spec_of)
    if api.kind in ("files", "bucket"):
        from cropline.intake.sources.photos import PhotosSource

        return PhotosSource(api, memory, spec_of)
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
    if api.kind != "rest":
        raise SettingsError(f"CROPLINE_API__URL: kind {api.kind} needs a path or the URL of a storage")
    raise SettingsError("CROPLINE_API__URL: no image API is set; give its base address, http(s)://host[:port]")


def pages(
    api: ApiSettings,
    since: str,
    leave: Leave = lambda: None,
    spec_of: Callable[[str], StoreSpec] = StoreSpec,
) -> Iterator[list[Any]]:
    """Yield the items updated since a time (ISO 8601), one page at a time, as the source returns them.

    Stop after ``api.max_pages``; when the caller got that many, there may be more. Raise ApiUnavailable, ApiRefused or
    SettingsError, also after the last page when a part could not be read.
    """
    source = open_source(api, leave, None, spec_of)
    with closing(source.pages(since)) as found:
        for number, page in enumerate(found, start=1):
            yield page.items
            if number >= api.max_pages:
                return
    check_whole(source)


def check_whole(source: Source) -> None:
    """Raise ApiRefused when a part of what was listed could not be read."""
    if source.problems:
        raise unread(source.problems)


def unread(problems: Sequence[str]) -> ApiRefused:
    """Return the error for files that could not be read; its notes name each of the first ones."""
    number = len(problems)
    what = "1 file" if number == 1 else f"{number:,} files"
    error = ApiRefused(f"{what} could not be read, the others were: {problems[0]}")
    for line in problems[1:_NAMED]:
        error.add_note(line)
    return error


_NAMED = 20


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

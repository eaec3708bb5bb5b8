"""A source that is a generator function of the user: (since, settings) -> pages of dicts."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cropline.config.api import READERS, ApiSettings
from cropline.core.errors import ApiError, ApiRefused, ApiUnavailable
from cropline.intake.plain_values import plain
from cropline.intake.sources.base import Answer, Leave, Page
from cropline.intake.user_code import load_function, where

SETTING = "CROPLINE_API__READER"


class PythonSource:
    """The pages of one function. It gets the time as a datetime in UTC, and the settings of the source."""

    by_time = True
    finds = False
    notes: Sequence[str] = ()
    problems: Sequence[str] = ()

    def __init__(self, api: ApiSettings, leave: Leave = lambda: None) -> None:
        self._api, self._leave = api, leave
        self._function = load_function(SETTING, api.reader, READERS)

    def items(self, image_ids: Sequence[str]) -> Iterator[Answer]:
        raise NotImplementedError

    def pages(self, since: str) -> Generator[Page, None, None]:
        """Yield what the function yields, page by page.

        Raise ApiUnavailable for an error of the network or the file system, else ApiRefused; both name the function,
        the page and the line. An ApiError of the function passes through.
        """
        moment = datetime.fromisoformat(since)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        number, pages = 0, None
        try:
            while True:
                self._leave()
                try:
                    if pages is None:
                        pages = self._opened(moment)
                    page = next(pages, None)
                except ApiError:
                    raise
                except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's function raises anything
                    failure = self._failure(error, number + 1)
                else:
                    if page is None:
                        return
                    number += 1
                    yield Page(self._items(page, number), begins=number == 1)
                    continue
                # Raised outside the handler: the error may hold a secret and must not become the context.
                raise failure
        finally:
            close = getattr(pages, "close", None)
            if close is not None:
                close()

    def _opened(self, since: datetime) -> Iterator[Any]:
        found = self._function(since, self._api)
        if not hasattr(found, "__iter__") or isinstance(found, str | bytes | dict):
            raise ApiRefused(f"{SETTING} {self._api.reader} returns a {type(found).__name__}, not pages of dicts")
        return iter(found)

    def _items(self, page: Any, number: int) -> list[Any]:
        if not isinstance(page, list | tuple):
            hint = "; yield [item]" if isinstance(page, dict) else ""
            raise ApiRefused(
                f"{SETTING} {self._api.reader}: page {number} is a {type(page).__name__}, not a list of dicts{hint}"
            )
        return [plain(item) for item in page]

    def _failure(self, error: BaseException, number: int) -> ApiError:
        kind = ApiUnavailable if isinstance(error, OSError) else ApiRefused
        return kind(f"{SETTING} {self._api.reader} raised {where(error)} at page {number}")

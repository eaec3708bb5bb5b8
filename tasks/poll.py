"""poll: read what the API announced since the saved cursor, and keep what was not seen before.

Belongs here: the bounds of a poll and its cursor. Does not: HTTP (cropline/image_api.py) or meaning (cropline/manifest.py).
Not retried by Prefect: the API client has its own retries, and the next scheduled poll is the one after that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from prefect import task

from cropline import image_api, manifest
from cropline.errors import ApiRefused
from cropline.run import Run
from tasks.options import STEP
from tasks.pace import paced


@dataclass(frozen=True)
class Polled:
    """What one poll brought. ``spool`` holds the unseen items, one JSON a line, in the order they came."""

    spool: Path
    items: int
    fresh: int
    since: str
    cursor: str  # where the next poll begins, before its overlap
    complete: bool  # False: stopped at max_pages, the next poll goes on


def poll(run: Run, look_back: timedelta | None = None) -> Polled:
    """Page through the API since the cursor, less the overlap. Items that were landed before are counted and left.

    ``look_back``: another overlap than the settings'.
    """
    api, state = run.settings.api, run.state
    saved = state.cursor(api.source) or api.start
    overlap = api.overlap if look_back is None else look_back
    since = (_moment(saved) - overlap).isoformat() if state.cursor(api.source) else saved
    reader = _Reader(run, _moment(saved))
    spool = run.folder / "items.ndjson"
    with spool.open("w", encoding="utf-8") as file:
        page_count = 0
        for page in paced(image_api.pages(api, since)):
            page_count += 1
            reader.take(page, file)
    complete = page_count < api.max_pages
    if not complete and not reader.ascending:
        raise ApiRefused(
            f"{api.source}: the poll stopped at {api.max_pages} pages, but the API does not sort by updated_at, so the "
            "rest would be lost; raise CROPLINE_API__MAX_PAGES"
        )
    return Polled(spool, reader.items, reader.fresh, since, reader.newest.isoformat(), complete)


poll_task = task(name="poll", task_run_name="poll the image API", **STEP | {"retries": 0})(poll)


def anything_new(run: Run, limited: bool) -> bool:
    """Whether the API's first page since the cursor, without the overlap, holds an item that was not landed.

    Not a task: for a watcher, which asks every second. ``limited``: what is_limited said.
    """
    api, state = run.settings.api, run.state
    for page in paced(image_api.pages(api, state.cursor(api.source) or api.start), limited):
        return bool(state.unseen(api.source, [manifest.item_digest(item) for item in page]))
    return False


class _Reader:
    """Takes pages one at a time; holds no item longer than its page."""

    def __init__(self, run: Run, newest: datetime) -> None:
        self._run = run
        self._now = datetime.now(UTC)
        self._digests: set[str] = set()
        self._last: datetime | None = None
        self.items = self.fresh = 0
        self.newest = newest
        self.ascending = True

    def take(self, page: Iterable[Any], file: TextIO) -> None:
        fresh = {manifest.item_digest(item): item for item in self._look_at(page)}
        source = self._run.settings.api.source
        unseen = self._run.state.unseen(source, list(fresh)) - self._digests
        unseen |= self._run.state.readdressed(source, self._addresses(fresh.keys() - unseen - self._digests, fresh))
        self._digests |= unseen
        for digest, item in fresh.items():
            if digest in unseen:
                self.fresh += 1
                file.write(json.dumps(item, ensure_ascii=True) + "\n")
        self._run.on_progress("polled", self.fresh, self.items)

    def _addresses(self, repeated: set[str], items: dict[str, Any]) -> dict[str, tuple[str, str]]:
        """Of items that were seen before, those whose address can be another one all the same: a fresh signature."""
        found = {digest: manifest.address(items[digest], self._run.settings.api) for digest in repeated}
        return {digest: address for digest, address in found.items() if address is not None}

    def _look_at(self, page: Iterable[Any]) -> Iterable[Any]:
        for item in page:
            self.items += 1
            moment = manifest.updated_at(item, self._run.settings.api.fields)
            if moment is not None:
                self.ascending = self.ascending and (self._last is None or moment >= self._last)
                self._last = moment
                # A moment in the future would carry the cursor past photos that are still to come.
                self.newest = max(self.newest, min(moment, self._now))
            yield item


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

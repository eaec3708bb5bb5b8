"""poll: reads what the API announced since the saved cursor, and keeps the items that were not seen before.

Prefect does not retry it: the API client retries requests, and the next scheduled poll reads the same items.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from prefect import get_run_logger, task

from cropline.core.errors import ApiRefused, ApiUnavailable
from cropline.core.scrub import visible
from cropline.intake import image_api, manifest
from cropline.intake.photo_places import check_photo_place
from cropline.intake.sources.base import Leave, Page, Source
from cropline.pipeline.run import Run
from tasks.options import STEP
from tasks.rate_limit import leave, limit_of

_AT_ONCE = 5_000


@dataclass(frozen=True)
class Polled:
    """The result of one poll. ``spool`` holds the unseen items in the API's order, one JSON document per line.

    ``read``: the files that were read to their ends, one JSON list (name, version) per line. ``problems``: what could
    not be read.
    """

    spool: Path
    items: int
    fresh: int
    since: str
    cursor: str  # where the next poll begins, before its overlap: everything up to it was read
    complete: bool  # False: stopped at max_pages, and the next poll continues
    read: Path | None = None
    list_after: str | None = None
    problems: Sequence[str] = ()
    deleted: Sequence[str] = ()  # ids of photos whose last item says that they were deleted
    present: Sequence[str] = ()  # ... and those whose last item does not, if deleted photos are kept


def poll(run: Run, look_back: timedelta | None = None) -> Polled:
    """Page through the API from the cursor minus the overlap. Items that were landed before are counted and dropped.

    ``look_back``: an overlap that replaces that of the settings. Raise ApiUnavailable, without a request, during a
    pause that the API asked for.
    """
    api, state = run.settings.api, run.state
    saved = state.cursor(api.source) or api.start
    overlap = api.overlap if look_back is None else look_back
    since = (_moment(saved) - overlap).isoformat() if state.cursor(api.source) else saved
    spool, read = run.folder / "items.ndjson", run.folder / "read.ndjson"
    with (
        spool.open("w", encoding="utf-8") as file,
        read.open("w", encoding="utf-8") as names,
        _pause_kept(run),
    ):
        source = open_source(run, leave(name=limit_of(run.settings)))
        reader = _Reader(run, _moment(saved), names, by_time=source.by_time)
        with closing(source.pages(since)) as pages:
            complete = reader.read(pages, file)
    for line in source.notes:
        get_run_logger().warning("%s", visible(line))
    cursor = reader.newest if complete else reader.passed
    return Polled(
        spool, reader.items, reader.fresh, since, cursor.isoformat(), complete, read, reader.list_after,
        tuple(source.problems), sorted(reader.deleted), sorted(reader.present),
    )  # fmt: skip


poll_task = task(name="poll", task_run_name="poll the image API", **STEP | {"retries": 0})(poll)


def anything_new(run: Run, limited: bool) -> bool:
    """Whether the API's first page since the cursor, without the overlap, has an item that was not landed.

    Not a task: a watcher calls it every second. ``limited``: the result of is_rate_limited.
    """
    api, state = run.settings.api, run.state
    since = state.cursor(api.source) or api.start
    with _pause_kept(run):
        source = open_source(run, leave(limited, name=limit_of(run.settings)))
    with _pause_kept(run), closing(source.pages(since)) as pages:
        for page in pages:
            if not source.by_time:
                return True
            gone = {manifest.image_id(item, api) or "" for item in page.items if manifest.is_deleted(item, api)}
            if gone and state.known_images(api.source, sorted(gone)):
                return True
            there = [item for item in page.items if not manifest.is_deleted(item, api)]
            digests = [manifest.taken(item, api.max_item_bytes)[0] for item in there]
            return bool(state.unseen(api.source, digests))
    return bool(source.problems)  # a poll then fails, and says why


class ReadFiles:
    """The files that polls of a source have read (sources.base.Memory)."""

    def __init__(self, run: Run) -> None:
        self._run, self._source = run, run.settings.api.source

    def unread(self, files: Mapping[str, str]) -> set[str]:
        return self._run.state.unread_files(self._source, files)

    def list_after(self) -> str | None:
        return self._run.state.list_after(self._source)


def open_source(run: Run, before_each: Leave) -> Source:
    """Return the source of the run, which leaves out the files that earlier polls have read."""
    check_photo_place(run.settings)
    memory = None if run.once else ReadFiles(run)
    return image_api.open_source(run.settings.api, before_each, memory, run.settings.bucket_spec)


def remember_files(run: Run, polled: Polled) -> None:
    """Record that the files of a poll were read, once their items are registered. Repeating it changes nothing."""
    source = run.settings.api.source
    if polled.read is None or run.once:
        return
    with polled.read.open(encoding="utf-8") as file:
        while part := dict(json.loads(line) for line in islice(file, _AT_ONCE)):
            run.state.remember_files(source, part)
    if polled.list_after is not None:
        run.state.remember_files(source, {}, polled.list_after)


@contextmanager
def _pause_kept(run: Run) -> Iterator[None]:
    """Make no request during a pause that the API asked for; store a new pause."""
    source = run.settings.api.source
    left = run.state.quiet_for(source)
    if left is not None:
        raise ApiUnavailable(
            f"the image API {run.settings.api.place} asked for a pause, of which {left.total_seconds():.0f} s are left: "
            "no request was made"
        )
    try:
        yield
    except ApiUnavailable as error:
        if error.wait is not None:
            run.state.keep_quiet(source, error.wait)
        raise


class _Reader:
    """Reads one page at a time, and holds no item longer than its page."""

    def __init__(self, run: Run, newest: datetime, names: TextIO | None = None, *, by_time: bool = True) -> None:
        self._run, self._api = run, run.settings.api
        self._names, self._by_time = names, by_time
        self.list_after: str | None = None
        self._now = datetime.now(UTC)
        self._digests: set[str] = set()
        self._last: datetime | None = None
        self._began_at = newest
        self.items = self.fresh = 0
        self.deleted, self.present = set[str](), set[str]()
        self.newest = newest
        self.passed = newest  # an update time that a newer one followed: an ascending listing was read up to it
        self._ascending = True

    def read(self, pages: Iterator[Page], file: TextIO) -> bool:
        """Read pages to the end (True) or, if the listing is ascending, up to max_pages pages with new items (False).

        Each stop must bring the next poll further. So pages of known items, which the overlap repeats, do not count,
        and reading does not stop before an update time later than the saved cursor.
        """
        with_news = 0
        for page in pages:
            if not self._by_time:
                self._take(page, file)
                with_news += 1
                # What was read to its end is not read again, so each stop brings the next poll further.
                if page.read and with_news >= self._api.max_pages:
                    return False
                continue
            if page.begins:
                self._last, self._ascending = None, True
                self.newest = self.passed = self._began_at
            if with_news >= self._api.max_pages:
                if not self._ascending:
                    raise ApiRefused(
                        f"{self._api.source}: the poll stopped at {self._api.max_pages} pages, but the API does not sort by "
                        "updated_at, oldest first, so the rest would be lost; raise CROPLINE_API__MAX_PAGES"
                    )
                if self.passed > self._began_at:
                    return False
            before = self.fresh
            self._take(page, file)
            with_news += self.fresh > before
        return True

    def _take(self, page: Page, file: TextIO) -> None:
        there = [item for item in page.items if not self._note_deleted(item)]
        fresh = dict(manifest.taken(item, self._api.max_item_bytes) for item in there)
        self.items += len(page.items)
        self._note(page.items)
        if self._names is not None:
            self._names.writelines(json.dumps(pair) + "\n" for pair in page.read.items())
        self.list_after = page.list_after if page.list_after is not None else self.list_after
        if not self._by_time:
            # An unread file is landed whole: a row that returns to its earlier form is a correction.
            self._spool(fresh, set(fresh) - self._digests, file)
            return
        unseen = self._run.state.unseen(self._api.source, list(fresh)) - self._digests
        known = fresh.keys() - unseen - self._digests
        unseen |= self._run.state.readdressed(self._api.source, self._addresses(known, fresh))
        self._spool(fresh, unseen, file)

    def _note_deleted(self, item: Any) -> bool:
        """Note whether an item says that its photo was deleted. The last item of a photo counts."""
        if not self._api.deleted:
            return False
        name, gone = manifest.image_id(item, self._api), manifest.is_deleted(item, self._api)
        if name is None:
            return False  # it is quarantined
        if gone:
            self.deleted.add(name)
            self.present.discard(name)
        else:
            self.deleted.discard(name)
            if self._api.on_delete == "keep":
                self.present.add(name)
        return gone

    def _spool(self, items: dict[str, Any], unseen: set[str], file: TextIO) -> None:
        self._digests |= unseen
        for digest, item in items.items():
            if digest in unseen:
                self.fresh += 1
                file.write(json.dumps(item, ensure_ascii=True) + "\n")
        self._run.on_progress("polled", self.fresh, self.items)

    def _addresses(self, repeated: set[str], items: dict[str, Any]) -> dict[str, tuple[str, str]]:
        """Return the URLs of items that were seen before: a URL may have a new signature."""
        found = {digest: manifest.address(items[digest], self._api) for digest in repeated}
        return {digest: address for digest, address in found.items() if address is not None}

    def _note(self, items: list[Any]) -> None:
        for item in items:
            moment = manifest.updated_at(item, self._api)
            if moment is None:
                continue
            self._ascending = self._ascending and (self._last is None or moment >= self._last)
            self._last = moment
            # A time in the future would move the cursor past photos that are announced later.
            moment = min(moment, self._now)
            if moment > self.newest:
                self.newest, self.passed = moment, self.newest


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

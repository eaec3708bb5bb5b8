"""A source of photos in a bucket or a folder, each with its boxes in a side-car.

A photo is an item once its side-car exists, and again when either is rewritten. Until then it waits. Memory holds a
page of photos; the listing is joined in a temporary database.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cropline.config.api import ApiSettings
from cropline.core.scrub import one_line
from cropline.intake.sources.base import Answer, Memory, Page
from cropline.intake.sources.file_listing import File, SpecOf, glob_regex, has_glob, place_of, root_of
from cropline.intake.sources.files import UNREADABLE, why_not
from cropline.intake.sources.sidecars import Said, Sidecars
from cropline.intake.stamps import stamp, time_in

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".mpo")

_AT_ONCE = 1_000
_TABLES = """
    CREATE TABLE photos (name TEXT PRIMARY KEY, sidecar TEXT, version TEXT, modified REAL, size INTEGER, folder TEXT);
    CREATE TABLE others (name TEXT PRIMARY KEY, version TEXT, modified REAL);
"""
_JOINED = """
    SELECT photos.name, photos.sidecar, photos.version, photos.modified, size, folder, others.version, others.modified
    FROM photos LEFT JOIN others ON others.name = photos.sidecar ORDER BY photos.name
"""


@dataclass(frozen=True)
class _Photo:
    name: str
    sidecar: str
    version: str
    modified: float
    size: int
    folder: str
    sidecar_version: str | None
    sidecar_modified: float | None

    @property
    def both(self) -> str:
        return f"{self.version} {self.sidecar_version or '-'}"


class PhotosSource:
    """The photos below a prefix. ``memory`` None: all of them."""

    by_time = False
    finds = False

    def __init__(self, api: ApiSettings, memory: Memory | None, spec_of: SpecOf) -> None:
        self._api, self._memory = api, memory
        self._place = place_of(api.url, spec_of)
        self._root = root_of(self._place)
        pattern = self._place.pattern
        self._matches = glob_regex(pattern) if has_glob(pattern) else None
        self._facts = re.compile(api.key_pattern) if api.key_pattern else None
        self._sidecars = Sidecars(api, self._place, self._root)
        self._problems: list[str] = []
        self.waiting, self._awaited = 0, ""

    @property
    def problems(self) -> Sequence[str]:
        return self._problems

    @property
    def notes(self) -> Sequence[str]:
        if not self.waiting:
            return ()
        return (f"{self.waiting:,} photos wait for their side-car; one of them for {self._awaited}",)

    def items(self, image_ids: Sequence[str]) -> Iterator[Answer]:
        raise NotImplementedError

    def pages(self, since: str) -> Generator[Page, None, None]:
        """Yield the photos that are new or rewritten, or whose side-car is, in the order of their names.

        Without memory: those that were written since a time. Raise ApiRefused when the folder does not exist,
        ApiUnavailable when the store does not list it.
        """
        after = self._memory.list_after() if self._memory is not None and self._api.keys_by_time else None
        earliest = _moment(self._api.start if self._memory is not None else since).timestamp()
        with closing(sqlite3.connect("")) as found:
            self._list(found, after)
            settled = _Settled(self._newest(found) - self._api.overlap.total_seconds(), after)
            items: list[Any] = []
            read: dict[str, str] = {}
            begins = True
            for photos in self._chunks(found):
                unread = self._unread(photos, earliest)
                for photo in photos:
                    said = self._said(photo) if photo.name in unread else None
                    settled.note(photo, is_open=photo.name in unread and said is None)
                    if said is None:
                        continue
                    items.append(self._item(photo, said))
                    read[photo.name] = photo.both
                    if len(items) >= self._api.page_size:
                        yield Page(items, begins, read)
                        items, read, begins = [], {}, False
            last = settled.name if self._memory is not None and self._api.keys_by_time else None
            if items or last != after:
                yield Page(items, begins, read, last)

    def _list(self, found: sqlite3.Connection, after: str | None) -> None:
        found.executescript(_TABLES)
        for file in self._place.below(self._root, after):
            try:
                file.name.encode()
            except UnicodeEncodeError:
                name = file.name.encode("utf-8", "replace").decode()
                self._problems.append(one_line(f"{name}: its name is not UTF-8; rename it"))
                continue
            if self._is_photo(file):
                row = (file.name, self._sidecars.name_of(file.name), file.version, file.modified.timestamp())
                found.execute("INSERT OR REPLACE INTO photos VALUES (?, ?, ?, ?, ?, ?)", (*row, file.size, file.folder))
            else:
                other = (file.name, file.version, file.modified.timestamp())
                found.execute("INSERT OR REPLACE INTO others VALUES (?, ?, ?)", other)

    def _is_photo(self, file: File) -> bool:
        named = file.name.lower().endswith(ENDINGS)
        return named and (self._matches is None or self._matches.fullmatch(file.name) is not None)

    def _newest(self, found: sqlite3.Connection) -> float:
        return float(found.execute("SELECT coalesce(max(modified), 0) FROM photos").fetchone()[0])

    def _chunks(self, found: sqlite3.Connection) -> Iterator[list[_Photo]]:
        rows = found.execute(_JOINED)
        while part := rows.fetchmany(_AT_ONCE):
            yield [self._with_sidecar(_Photo(*row)) for row in part]

    def _with_sidecar(self, photo: _Photo) -> _Photo:
        """Look up a side-car that the listing cannot have: another place, or before the key where it began."""
        inside = not self._root or photo.sidecar.startswith(f"{self._root}/")
        if photo.sidecar_version is not None or (inside and not self._api.keys_by_time):
            return photo
        found = self._place.one(photo.sidecar)
        if found is None:
            return photo
        return _Photo(
            photo.name, photo.sidecar, photo.version, photo.modified, photo.size, photo.folder,
            found.version, found.modified.timestamp(),
        )  # fmt: skip

    def _unread(self, photos: list[_Photo], earliest: float) -> set[str]:
        wanted = {photo.name: photo.both for photo in photos if photo.modified >= earliest}
        return set(wanted) if self._memory is None else self._memory.unread(wanted)

    def _said(self, photo: _Photo) -> Said | None:
        """Return what the side-car says; None when the photo waits for it, or it cannot be read."""
        if photo.sidecar_version is None:
            self._wait_for(photo)
            return None
        try:
            said = self._sidecars.said(photo.sidecar, photo.sidecar_version, photo.name)
        except UNREADABLE as error:
            problem = one_line(f"{photo.sidecar}: {why_not(error)}")
            if problem not in self._problems[-3:]:
                self._problems.append(problem)
            return None
        if said is None:
            self._wait_for(photo)
        return said

    def _wait_for(self, photo: _Photo) -> None:
        self.waiting, self._awaited = self.waiting + 1, photo.sidecar

    def _item(self, photo: _Photo, said: Said) -> dict[str, Any]:
        """Return the item: facts of the object, of its name, and of its side-car, which comes first but for these."""
        named = self._facts.search(photo.name) if self._facts else None
        modified = datetime.fromtimestamp(photo.modified, UTC)
        newest = datetime.fromtimestamp(max(photo.modified, photo.sidecar_modified or 0), UTC)
        item = {
            **{name: value for name, value in (named.groupdict() if named else {}).items() if value is not None},
            **said,
            "id": photo.name.removeprefix(self._root).lstrip("/"),
            "url": self._place.url(photo.name),
            "etag": photo.version,
            "updated_at": time_in(newest, self._api),
        }
        return item | stamp(photo.sidecar, photo.folder, modified, 0, self._api)


class _Settled:
    """The name up to which every photo was read, and is old enough that no earlier name arrives any more."""

    def __init__(self, horizon: float, name: str | None) -> None:
        self._horizon, self.name, self._ended = horizon, name, False

    def note(self, photo: _Photo, *, is_open: bool) -> None:
        self._ended = self._ended or is_open or photo.modified > self._horizon
        if not self._ended:
            self.name = photo.name


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

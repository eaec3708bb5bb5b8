"""Listings: Parquet files of manifest rows.

They are landed manifests, or pages of the image API written to local files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.backfill.request import Photos
from cropline.core import storage
from cropline.core.request import in_utc
from cropline.intake import manifest

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.config.settings import ApiSettings
    from cropline.core.store_spec import StoreSpec

_ROWS_PER_LISTING = 5_000
# Camera clocks may be wrong by hours, and a manifest's folder names the day of its newest row.
_SKEW = timedelta(days=2)


@dataclass(frozen=True)
class Listing:
    """Some manifest rows. ``key``: their landed manifest, or None when they are only in a local file.

    ``origins``: for each row that was mapped again, its landed manifest and row number.
    """

    key: str | None
    path: Path | None
    origins: Sequence[tuple[str, int]] = ()

    def read(self, spec: StoreSpec, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows (schemas.MANIFEST), or some of their columns. Raise ManifestError."""
        if self.key is not None:
            return manifest.read(spec, self.key, columns)
        import pyarrow.parquet as pq

        return pq.read_table(self.path, columns=list(columns) if columns else None)

    def read_mapped(self, spec: StoreSpec) -> pa.Table:
        """Return the rows without their raw items, see manifest.read_mapped. Raise ManifestError."""
        return manifest.read_mapped(spec, self.key or "", self.path)


@dataclass
class Announced:
    """The listings that were read, and how many items and calls that took."""

    listings: list[Listing] = field(default_factory=list)
    items: int = 0
    calls: int = 0
    complete: bool = True  # False: a limit ended the reading
    note: str | None = None


def landed(spec: StoreSpec, source: str, photos: Photos) -> Announced:
    """Return the landed manifests of a source that may hold photos of the window, oldest first."""
    earliest = (in_utc(photos.since) - _SKEW).date().isoformat() if photos.since else ""
    # The order matters: of two announcements with the same updated_at, the later one is right.
    listed = sorted(storage.list_written(spec, f"manifests/{source}"))
    keys = [key for _, key in listed if key.split("/")[2] >= earliest]
    return Announced([Listing(key, None) for key in keys])


def polled(
    pages: Iterable[list[Any]],
    api: ApiSettings,
    photos: Photos,
    folder: Path,
    max_calls: int | None,
    group: Callable[[Path], Iterable[dict[str, Any]]] | None = None,
) -> Announced:
    """Read pages into listings below ``folder``, until they end, pass the window, or ``max_calls`` pages are read.

    ``group`` turns a file of items into rows, for an API that announces boxes. When the API sorts by update time,
    reading stops ``api.late`` after the window; otherwise it reads to the end.
    """
    reader = _Pages(api, photos, max_calls)
    found = Announced()
    items = (manifest.bounded(item, api.max_item_bytes) for item in reader.items(pages, found))
    rows_found = (
        (manifest.manifest_row(0, item, api) for item in items) if group is None else group(_spooled(items, folder))
    )
    for number, rows in enumerate(_chunks(rows_found)):
        path = folder / f"sheet-{number:05d}.parquet"
        manifest.write_rows(rows, path)
        found.listings.append(Listing(None, path))
    return found


def _spooled(items: Iterable[Any], folder: Path) -> Path:
    path = folder / "announced.ndjson"
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(item, ensure_ascii=True) + "\n")
    return path


class _Pages:
    """Reads the items of pages; holds one page at a time."""

    def __init__(self, api: ApiSettings, photos: Photos, max_calls: int | None) -> None:
        self._api = api
        self._max_calls = max_calls
        self._until = in_utc(photos.until) if photos.until else None
        self._last: datetime | None = None
        self._ascending = True

    def items(self, pages: Iterable[list[Any]], found: Announced) -> Iterator[Any]:
        iterator = iter(pages)
        while True:
            if self._max_calls is not None and found.calls >= self._max_calls:
                found.complete, found.note = False, f"reading the listing stopped after {found.calls} calls (the limit)"
                return
            page = next(iterator, None)
            if page is None:
                break
            found.calls += 1
            for item in page:
                found.items += 1
                self._note(item)
                yield item
            if self._past_window():
                found.note = f"reading the listing stopped {self._api.late} after the window"
                return
        if found.calls >= self._api.max_pages:
            found.complete, found.note = False, "reading the listing stopped at CROPLINE_API__MAX_PAGES"

    def _note(self, item: Any) -> None:
        moment = manifest.updated_at(item, self._api)
        if moment is not None:
            self._ascending = self._ascending and (self._last is None or moment >= self._last)
            self._last = moment

    def _past_window(self) -> bool:
        if self._until is None or self._last is None or not self._ascending:
            return False
        return self._last > self._until + self._api.late


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row | {"row": len(chunk)})
        if len(chunk) == _ROWS_PER_LISTING:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def start_of(photos: Photos, api: ApiSettings) -> str:
    """Return the update time from which the API is read.

    Photos are announced after capture, except for clock errors.
    """
    return (in_utc(photos.since) - api.overlap).astimezone(UTC).isoformat() if photos.since else api.start

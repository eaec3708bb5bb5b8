"""Where photos are announced, as sheets: Parquet files of manifest rows, read one at a time.

Belongs here: pages of the image API into local sheets, landed manifests as sheets. Does not: choosing rows (choose.py).
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
# Clocks of cameras go wrong by hours; a manifest's folder names the day of its newest row.
_SKEW = timedelta(days=2)


@dataclass(frozen=True)
class Listing:
    """Some manifest rows. ``key``: the landed manifest they are in, or None when they are only on this machine.

    ``origins``: for each row the landed manifest and row that it was mapped again from.
    """

    key: str | None
    path: Path | None
    origins: Sequence[tuple[str, int]] = ()

    def read(self, spec: StoreSpec, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows (schemas.MANIFEST), or some of their columns. Raises ManifestError."""
        if self.key is not None:
            return manifest.read(spec, self.key, columns)
        import pyarrow.parquet as pq

        return pq.read_table(self.path, columns=list(columns) if columns else None)

    def read_mapped(self, spec: StoreSpec) -> pa.Table:
        """The rows without their items, see manifest.read_mapped. Raises ManifestError."""
        return manifest.read_mapped(spec, self.key or "", self.path)


@dataclass
class Announced:
    """The sheets, and what reading them took."""

    listings: list[Listing] = field(default_factory=list)
    items: int = 0
    calls: int = 0
    complete: bool = True  # False: a limit ended the reading
    note: str | None = None


def landed(spec: StoreSpec, source: str, photos: Photos) -> Announced:
    """Every landed manifest of a source that may hold photos of the window, in the order in which they were landed."""
    earliest = (in_utc(photos.since) - _SKEW).date().isoformat() if photos.since else ""
    # Two announcements of one updated_at: the later one is right.
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
    """Read pages into sheets below ``folder``, until they end, pass the window or ``max_calls`` are made.

    ``group``: makes rows of a file of items, for an API whose items are boxes. An API that sorts by update time is left once it is ``api.late`` past the window; any other is read to its end.
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
    """Items of the window out of pages; holds one page at a time."""

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
                found.complete, found.note = False, f"the listing was left after {found.calls} calls, as limited"
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
                found.note = f"the listing was left {self._api.late} after the window"
                return
        if found.calls >= self._api.max_pages:
            found.complete, found.note = False, "the listing was left at CROPLINE_API__MAX_PAGES"

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
    """From which update on the API is asked: nothing is announced before it was captured, clocks aside."""
    return (in_utc(photos.since) - api.overlap).astimezone(UTC).isoformat() if photos.since else api.start

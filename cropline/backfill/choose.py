"""Chooses the announced rows that count: photos that the request names, each in its newest good version.

It reads the listings twice: a few columns of all rows, then the whole rows that may count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cropline.backfill.listings import Listing
from cropline.backfill.request import Photos
from cropline.core.keys import metadata_hash
from cropline.core.request import in_utc

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.core.store_spec import StoreSpec

# Takes manifest rows. Returns ``row`` number -> names of the broken expectations.
Validator = Callable[["pa.Table"], dict[int, list[str]]]

_LIGHT = ("row", "image_id", "version", "captured_at", "updated_at", "store_id", "camera_id", "bytes", "content_hash")
_JUDGED = ["content_hash", "bytes", "boxes", "store_id", "camera_id", "captured_at"]
_VALIDATED_AT_ONCE = 20_000
_NEVER = datetime(1, 1, 1, tzinfo=UTC)
NEWER_IS_BAD = "bad, an older version is good"
AMBIGUOUS = "same version and time as another row, but different content"


@dataclass(slots=True)
class Row:
    """One announced photo: the position of its row, and what the plan needs from it."""

    listing: int
    row: int
    image_id: str
    version: str
    content_hash: str
    captured_at: datetime | None
    updated_at: datetime | None
    store_id: str | None
    camera_id: str | None
    bytes: int | None
    announced_now: bool = False  # by the API, in this run
    boxes: int = 0
    metadata: str = ""  # keys.metadata_hash
    broken: tuple[str, ...] = ()


@dataclass
class Chosen:
    """Rows that count, good and bad, and counts of the others."""

    good: list[Row] = field(default_factory=list)
    bad: list[Row] = field(default_factory=list)  # the newest row of each photo that has no good version
    read: int = 0
    outside: Counter[str] = field(default_factory=Counter)  # why a row does not count


def choose(
    listings: list[Listing],
    spec: StoreSpec,
    photos: Photos,
    now: datetime,
    validate: Validator,
    only: Sequence[Collection[int]] | None = None,
) -> Chosen:
    """Read all listings. Each row is in exactly one of good, bad and outside. ``only``: the rows of each listing."""
    chosen = Chosen()
    versions: dict[str, list[Row]] = {}
    for number, listing in enumerate(listings):
        rows = listing.read(spec, _LIGHT)
        if only is not None:
            rows = _those(rows, only[number])
        for row in _asked(rows, number, _Filter(photos, now), chosen):
            row.announced_now = listing.key is None
            versions.setdefault(row.image_id, []).append(row)
    return _chosen(versions, listings, spec, validate, chosen)


def _those(rows: pa.Table, numbers: Collection[int]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    return rows.filter(pc.is_in(rows["row"], pa.array(sorted(numbers), pa.int64())))


def _chosen(
    versions: dict[str, list[Row]], listings: list[Listing], spec: StoreSpec, validate: Validator, chosen: Chosen
) -> Chosen:
    for rows in versions.values():
        rows.sort(key=lambda row: (row.updated_at or _NEVER, row.listing, row.row))
        _drop_repeats(rows, chosen)
    _settle(versions, listings, spec, validate, chosen)
    return chosen


class _Filter:
    def __init__(self, photos: Photos, now: datetime) -> None:
        self._since = in_utc(photos.since) if photos.since else _NEVER
        self._until = in_utc(photos.until) if photos.until else now
        self._stores, self._cameras = set(photos.stores), set(photos.cameras)

    def why_not(self, row: dict[str, Any]) -> str | None:
        """Return why the request excludes a row, or None when it does not."""
        if not row["image_id"]:
            return "no image id"
        if row["captured_at"] is None:
            return "no capture time"
        if not self._since <= row["captured_at"] < self._until:
            return "outside of the window"
        if self._stores and row["store_id"] not in self._stores:
            return "other store"
        if self._cameras and row["camera_id"] not in self._cameras:
            return "other camera"
        return None


def _asked(rows: pa.Table, listing: int, wanted: _Filter, chosen: Chosen) -> Iterator[Row]:
    chosen.read += rows.num_rows
    for batch in rows.to_batches(max_chunksize=5_000):
        for row in batch.to_pylist():
            why = wanted.why_not(row)
            if why is not None:
                chosen.outside[why] += 1
                continue
            yield Row(listing, **row | {"version": row["version"] or "", "content_hash": row["content_hash"] or ""})


def _drop_repeats(rows: list[Row], chosen: Chosen) -> None:
    """Drop repeats of the same version. The last one stays, because its URL is the newest."""
    last = {row.content_hash: row for row in rows}
    kept = [row for row in rows if last[row.content_hash] is row]
    chosen.outside["announced again"] += len(rows) - len(kept)
    rows[:] = kept


def _settle(
    versions: dict[str, list[Row]], listings: list[Listing], spec: StoreSpec, validate: Validator, chosen: Chosen
) -> None:
    """Validate the newest version of each photo; where it is bad, the version before it, and so on."""
    newest_bad: dict[str, Row] = {}
    candidates = [rows.pop() for rows in versions.values()]
    while candidates:
        validate_rows(candidates, listings, spec, validate)
        again = []
        for row in candidates:
            older = versions[row.image_id]
            if not row.broken:
                chosen.good.append(row)
                same = sum((other.version, other.updated_at) == (row.version, row.updated_at) for other in older)
                chosen.outside["newer version"] += len(older) - same
                if same:
                    chosen.outside[AMBIGUOUS] += same
                if newest_bad.pop(row.image_id, None) is not None:
                    chosen.outside[NEWER_IS_BAD] += 1
            else:
                if newest_bad.setdefault(row.image_id, row) is not row:
                    chosen.outside["bad, as is the newer version"] += 1
                if older:
                    again.append(older.pop())
        candidates = again
    chosen.bad = list(newest_bad.values())


def validate_rows(rows: list[Row], listings: Sequence[Listing], spec: StoreSpec, validate: Validator) -> None:
    """Read whole rows. Set their broken expectations, boxes, bytes and hash."""
    for part in _parts(rows):
        table = _whole_rows(part, listings, spec)
        broken = validate(table)
        for position, (row, columns) in enumerate(zip(part, table.select(_JUDGED).to_pylist(), strict=True)):
            boxes = columns["boxes"] or []
            row.broken = tuple(broken.get(position, ()))
            row.content_hash, row.bytes, row.boxes = columns["content_hash"] or "", columns["bytes"], len(boxes)
            row.metadata = metadata_hash(columns["store_id"], columns["camera_id"], columns["captured_at"], boxes)


def _parts(rows: list[Row]) -> Iterable[list[Row]]:
    ordered = sorted(rows, key=lambda row: (row.listing, row.row))
    return (ordered[start : start + _VALIDATED_AT_ONCE] for start in range(0, len(ordered), _VALIDATED_AT_ONCE))


def _whole_rows(part: list[Row], listings: Sequence[Listing], spec: StoreSpec) -> pa.Table:
    """Return the rows as one manifest, in the order of ``part``, numbered from 0."""
    import pyarrow as pa

    tables, start = [], 0
    while start < len(part):
        listing = part[start].listing
        end = next((at for at in range(start, len(part)) if part[at].listing != listing), len(part))
        wanted = {row.row for row in part[start:end]}
        rows = listings[listing].read_mapped(spec)
        keep = pa.array([number in wanted for number in rows["row"].to_pylist()])
        tables.append(rows.filter(keep).sort_by("row"))
        start = end
    table = pa.concat_tables(tables)
    return table.set_column(0, table.schema.field("row"), pa.array(range(len(table)), pa.int64()))

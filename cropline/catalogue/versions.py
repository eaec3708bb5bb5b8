"""Versions of the catalogue by number or by time. The times are those in the table's log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cropline.catalogue.log import read_actions, read_info
from cropline.core.errors import CatalogueError

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.core.store_spec import StoreSpec

Version = int | datetime
"""The number of a version, or a time with a zone: then the newest version at that time."""


@dataclass(frozen=True)
class VersionRows:
    """One version of the table. ``rows`` streams its current rows, once. ``committed_at`` None: the log no longer has it."""

    version: int
    committed_at: datetime | None
    rows: pa.RecordBatchReader


def resolve(spec: StoreSpec, newest: int, wanted: Version | None) -> int:
    """Return the number of a version of the table. None is the newest.

    Raise CatalogueError when there is no such version, or when the log no longer reaches back to the time.
    """
    if wanted is None:
        return newest
    if isinstance(wanted, datetime):
        return _at(spec, newest, zoned(wanted).astimezone(UTC))
    if isinstance(wanted, int):
        if not 0 <= wanted <= newest:
            raise CatalogueError(f"the catalogue has no version {wanted}: it has 0 to {newest}")
        return wanted
    raise CatalogueError(f"{wanted!r} is neither the number of a version nor a time (datetime)")


def committed_at(spec: StoreSpec, version: int) -> datetime | None:
    """Return when a version was committed, by its entry in the log. None: the log no longer has it."""
    actions = read_actions(spec, version)
    if actions is None:
        return None
    milliseconds = read_info(actions).get("timestamp")
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _at(spec: StoreSpec, newest: int, moment: datetime) -> int:
    """Return the newest version that was committed at or before a time. It reads few entries of the log."""
    step, low = 1, newest
    while not _is_before(spec, low, moment):
        if low == 0:
            raise CatalogueError(f"the catalogue did not exist yet at {moment.isoformat()}")
        low, step = max(0, low - step), step * 2
    high = min(newest + 1, low + max(1, step // 2))  # the first version that is known to be later
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_before(spec, middle, moment) else (low, middle)
    if committed_at(spec, low) is None:
        raise CatalogueError(
            f"the catalogue's log no longer reaches back to {moment.isoformat()}: "
            f"its oldest version is {high}; name a version by its number"
        )
    return low


def _is_before(spec: StoreSpec, version: int, moment: datetime) -> bool:
    """Return whether a version is not later than a time. Entries that the log no longer has are older than all others."""
    at = committed_at(spec, version)
    return at is None or at <= moment


def zoned(moment: datetime) -> datetime:
    """Return the time. Raise CatalogueError when it has no time zone."""
    if moment.tzinfo is None:
        raise CatalogueError(f"the time {moment.isoformat()} has no time zone")
    return moment

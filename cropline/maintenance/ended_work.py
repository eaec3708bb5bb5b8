"""Moves photos that ended long ago out of the state table, when the catalogue proves that it knows them.

What may leave: photos all of whose work items are done, without a failed box, for longer than the settings say. Photos of
a profile with ``retention_days`` stay: when their crops expire, the catalogue no longer knows them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cropline.catalogue import Catalogue
from cropline.maintenance.result import CleanupResult
from cropline.pipeline.known_photos import COLUMNS, bring_back, is_proven, work_items

if TYPE_CHECKING:
    from cropline.config.settings import Settings
    from cropline.core.store_spec import StoreSpec
    from cropline.state import ImageState, State

_PHOTOS_AT_ONCE = 1_000


def move_out_ended(spec: StoreSpec, state: State, settings: Settings, *, dry_run: bool) -> list[CleanupResult]:
    """Move old photos out of the state table. It can be killed at any moment: each photo has left, or has not.

    A photo whose rows in the catalogue are not exactly what its work items say stays.
    """
    days = settings.retention.state_days
    if days is None:
        return []
    catalogue = Catalogue(spec)
    expiring = {name for name, profile in settings.profiles.items() if profile.retention_days is not None}
    moved = stayed = 0
    for source, items in state.old_photos(datetime.now(UTC) - timedelta(days=days)):
        for photos in _portions(items):
            proven = _proven(catalogue, source, [part for part in photos if not _profiles(part) & expiring])
            gone = len(proven) if dry_run else state.move_out(source, [item for part in proven for item in part])
            moved, stayed = moved + gone, stayed + len(photos) - gone
    return [
        CleanupResult(f"photos that ended more than {days} days ago, moved out of the state table", moved),
        *([CleanupResult("such photos that stay in it: see operations", stayed)] if stayed else []),
    ]


def _profiles(items: Sequence[ImageState]) -> set[str]:
    return {item.profile for item in items}


def _portions(items: Sequence[ImageState]) -> Iterator[list[list[ImageState]]]:
    """Yield the work items photo by photo, some photos at a time."""
    photos: dict[str, list[ImageState]] = {}
    for item in items:
        photos.setdefault(item.image_id, []).append(item)
    # Photos of one batch are in the same files of the catalogue.
    ordered = sorted(photos.values(), key=lambda part: (part[0].committed_batch or "", part[0].image_id))
    for start in range(0, len(ordered), _PHOTOS_AT_ONCE):
        yield ordered[start : start + _PHOTOS_AT_ONCE]


def _proven(catalogue: Catalogue, source: str, photos: Sequence[list[ImageState]]) -> list[list[ImageState]]:
    """Return the photos whose work items the catalogue gives back as they are."""
    batches = {item.committed_batch for items in photos for item in items if item.committed_batch is not None}
    updated_at = {items[0].image_id: items[0].updated_at for items in photos}
    rows = catalogue.images_rows(source, updated_at, committed_in=batches, columns=COLUMNS)
    known = {(item.image_id, item.profile): item for item in work_items(source, rows, updated_at.__getitem__)}
    return [
        items for items in photos if all(is_proven(item, known.get((item.image_id, item.profile))) for item in items)
    ]


def bring_expiring_back(spec: StoreSpec, state: State, photos: Collection[tuple[str, str]]) -> None:
    """Put photos (source, image id) that left the state table back, before the catalogue loses their rows."""
    catalogue = Catalogue(spec)
    for source in sorted({source for source, _ in photos}):
        bring_back(state, catalogue, source, {image_id for of, image_id in photos if of == source})

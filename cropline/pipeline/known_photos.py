"""Photos that left the state table: recognised by the catalogue, and brought back before they are worked on again.

The catalogue's rows give back the work item that made them (``work_items``). Photos move out only when this equals the
work item in the table. So the decision on a photo is the same as for one that stayed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from cropline.core.keys import metadata_hash
from cropline.state import ImageState
from cropline.state.moved_out import MovedOut, Remembered

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.catalogue import Catalogue
    from cropline.state import Registered, Registration, State

_PHOTOS_AT_ONCE = 1_000
_ITEMS_A_PHOTO = 1_000  # at most: one a profile
# Equal in all rows of a work item.
_OF_WORK = (
    "image_id", "profile", "profile_hash", "version", "fingerprint", "manifest", "manifest_row", "captured_at", "store_id",
    "camera_id", "batch_id",
)  # fmt: skip
COLUMNS = ("source", *_OF_WORK, "box_index", "score", "committed_at")


def work_items(source: str, rows: pa.Table, updated_at: Callable[[str], datetime | None]) -> Iterator[ImageState]:
    """Yield the done work items of these current rows (COLUMNS of one source).

    None of a work item whose rows are not all of one commit, or not one per box: they do not say what it was.
    """
    grouped = rows.group_by(list(_OF_WORK), use_threads=False).aggregate(
        [("box_index", "list"), ("score", "list"), ("committed_at", "max")]
    )
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for work in grouped.to_pylist():
        found.setdefault((work["image_id"], work["profile"]), []).append(work)
    for (image_id, _), of_one in found.items():
        work = of_one[0]
        boxes = sorted(zip(work["box_index_list"], work["score_list"], strict=True), key=itemgetter(0))
        if len(of_one) == 1 and [index for index, _ in boxes] == list(range(len(boxes))):
            yield _work_item(source, work, [score for _, score in boxes], updated_at(image_id))


def _work_item(
    source: str, work: dict[str, Any], scores: Sequence[float | None], updated_at: datetime | None
) -> ImageState:
    names = ("image_id", "profile", "profile_hash", "fingerprint", "manifest", "manifest_row", "store_id", "camera_id")
    return ImageState(
        **{name: work[name] for name in names},
        source=source,
        state="done",
        since=work["committed_at_max"],
        reason=None,
        attempts=0,
        retry_at=None,
        version=work["version"] or "",
        boxes=len(scores),
        captured_at=work["captured_at"],
        updated_at=updated_at,
        first_seen=work["committed_at_max"],
        batch_id=work["batch_id"],
        committed_batch=work["batch_id"],
        metadata=metadata_hash(
            work["store_id"], work["camera_id"], work["captured_at"], [{"score": score} for score in scores]
        ),
    )


def is_proven(item: ImageState, by_catalogue: ImageState | None) -> bool:
    """Return whether the catalogue gives a work item of the state table back, as far as decisions depend on it.

    A row of an early version has no hash of its metadata; the catalogue then knows more.
    """
    names = (
        "profile_hash", "version", "fingerprint", "manifest", "manifest_row", "boxes", "captured_at", "updated_at",
        "store_id", "camera_id", "committed_batch",
    )  # fmt: skip
    return (
        by_catalogue is not None
        and all(getattr(item, name) == getattr(by_catalogue, name) for name in names)
        and item.metadata in (None, by_catalogue.metadata)
    )


def moved_items(state: State, catalogue: Catalogue, source: str, image_ids: Collection[str]) -> list[ImageState]:
    """Return the work items of those of the photos that left the table, as the catalogue knows them. Writes nothing."""
    moved = state.moved_photos(source, image_ids).found
    return [item for part in _portions(moved) for item in _recalled(catalogue, source, part)]


def find_known(state: State, catalogue: Catalogue, source: str, image_ids: Sequence[str]) -> list[ImageState]:
    """Return the work items of photos: those in the table, and those that left it. Writes nothing."""
    if not image_ids:
        return []
    here = state.find_images(sources=[source], images=image_ids, limit=len(image_ids) * _ITEMS_A_PHOTO)
    return [*here, *moved_items(state, catalogue, source, image_ids)]


def _portions(moved: Mapping[str, Remembered]) -> Iterator[dict[str, Remembered]]:
    names = sorted(moved)
    for start in range(0, len(names), _PHOTOS_AT_ONCE):
        yield {name: moved[name] for name in names[start : start + _PHOTOS_AT_ONCE]}


def _recalled(catalogue: Catalogue, source: str, moved: dict[str, Remembered]) -> list[ImageState]:
    batches = {told.batch_id for told in moved.values() if told.batch_id is not None}
    by_batch = [name for name, told in moved.items() if told.batch_id is not None]
    found = _read(catalogue, source, by_batch, moved, batches) if by_batch else []
    # Rows may have moved to another batch: another installation superseded them.
    left = sorted(moved.keys() - {item.image_id for item in found})
    return found + (_read(catalogue, source, left, moved, None) if left else [])


def _read(
    catalogue: Catalogue, source: str, names: Collection[str], told: dict[str, Remembered], batches: set[str] | None
) -> list[ImageState]:
    rows = catalogue.images_rows(source, names, committed_in=batches, columns=COLUMNS)
    return list(work_items(source, rows, lambda image_id: told[image_id].updated_at))


def bring_back(state: State, catalogue: Catalogue, source: str, image_ids: Collection[str]) -> tuple[int, set[str]]:
    """Put photos that left the table back into it. Return its moves so far, and photos that the catalogue lost."""
    moved, lost = state.moved_photos(source, image_ids), set[str]()
    # A portion at a time: an API may announce all of its photos again.
    for part in _portions(moved.found):
        items = _recalled(catalogue, source, part)
        state.bring_back(source, items)
        lost |= part.keys() - {item.image_id for item in items}
    return moved.moves, lost


def register(
    state: State,
    catalogue: Catalogue,
    source: str,
    image_ids: Collection[str],
    make: Callable[[int, Collection[str]], Registration],
) -> Registered:
    """Bring the photos back that left the table, then register them. ``make(moves, unknown)`` returns the registration."""
    while True:
        moves, unknown = bring_back(state, catalogue, source, image_ids)
        try:
            return state.register(make(moves, unknown))
        except MovedOut:  # maintenance runs beside it; what it moved out is brought back
            continue

"""Photos that ended long ago leave the table of work items: the catalogue knows them. One short row of each stays here.

old_photos   Yield the photos that may leave, whole: all of their work items are done without a failed box, and old.
move_out     Delete work items that are still as the caller read and proved them; remember their photos.
find         Return what is remembered of photos, for the look-up in the catalogue.
bring_back   Put work items back, as the catalogue gave them; a registration then decides as if they had stayed.
check        Refuse a registration whose photos left after they were looked up.

What is remembered: a hash of the photo's name, its updated_at, which the catalogue does not have, and its batch, by which
the catalogue finds it quickly. Moves hold the lock of the source, as registrations do. The reasons:
docs/decisions/0035-ended-work-leaves.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, literal_column, select, update

from cropline.core.keys import digest
from cropline.state.bulk import one_of, unnested
from cropline.state.database import Database, plan_by_index
from cropline.state.model import ImageState
from cropline.state.queue import has_several_profiles
from cropline.state.source_lock import block_registrations
from cropline.state.tables import constant, images, moved_out, sources, tombstones

_IMAGE = [images.c[field.name] for field in fields(ImageState)]
# What can change in a work item that is done, or was done again.
_CHANGES = [
    images.c[name]
    for name in ("image_id", "profile", "state", "since", "fingerprint", "updated_at", "metadata", "committed_batch")
]
_IDS_A_QUERY = 1_000
_ROWS_A_PART = 5_000
_PAGES_A_PART = 300  # of PostgreSQL, 8 KB each: about as many rows


class MovedOut(Exception):
    """Photos of a registration left the table after they were looked up in the catalogue."""


@dataclass(frozen=True)
class Remembered:
    """What is left of a photo that moved out. ``batch_id``: of all its rows in the catalogue; None when they differ."""

    updated_at: datetime | None
    batch_id: str | None


@dataclass(frozen=True)
class MovedPhotos:
    """Those of some photos that moved out. ``moves``: how often photos of the source had moved out by then."""

    moves: int
    found: Mapping[str, Remembered]


def photo_hash(source: str, image_id: str) -> int:
    """Return the name of a photo as a signed number of 64 bits."""
    return int(digest(source, image_id)[:16], 16) - (1 << 63)


def old_photos(database: Database, before: datetime) -> Iterator[tuple[str, list[ImageState]]]:
    """Yield (source, work items) in parts: photos all of whose work items are done since before a time.

    Reads the whole table, in its physical order: so a part is of few batches, and whole pages become free.
    """
    for place in _places(database):
        with database.reading() as connection:
            old = select(*_IMAGE).where(place, *_may_leave(before))
            items = [ImageState(*row) for row in connection.execute(old).all()]
            for source, part in groupby(sorted(items, key=_name), key=attrgetter("source")):
                whole = _whole(connection, source, list(part), before)
                if whole:
                    yield source, whole


def _name(item: ImageState) -> tuple[str, str, str]:
    return item.source, item.image_id, item.profile


def _may_leave(before: datetime) -> list[ColumnElement[bool]]:
    # A photo without boxes has no rows in the catalogue, which could not recognise it.
    done = [images.c.state == constant("done"), images.c.reason.is_(None), images.c.boxes > 0]
    return [*done, images.c.committed_batch.is_not(None), images.c.since < before]


def _places(database: Database) -> list[ColumnElement[bool]]:
    """Return the conditions of the parts of the table: ranges of pages on PostgreSQL, of rows on SQLite."""
    with database.reading() as connection:
        if connection.dialect.name == "postgresql":
            size = "pg_relation_size('images') / current_setting('block_size')::bigint"
            pages: int = connection.execute(select(literal_column(size))).scalar_one()
            starts = range(0, int(pages) + 1, _PAGES_A_PART)
            # Our own numbers. PostgreSQL 14 and later read only these pages.
            return [
                literal_column(
                    f"images.ctid >= '({start},0)'::tid AND images.ctid < '({start + _PAGES_A_PART},0)'::tid"
                )
                for start in starts
            ]
        rowid: ColumnElement[int] = literal_column("images.rowid")
        last = connection.execute(select(func.max(rowid)).select_from(images)).scalar() or 0
        return [and_(rowid > start, rowid <= start + _ROWS_A_PART) for start in range(0, int(last) + 1, _ROWS_A_PART)]


def _whole(connection: Connection, source: str, items: list[ImageState], before: datetime) -> list[ImageState]:
    """Return all work items of those photos of which each item may leave."""
    if not has_several_profiles(connection):
        return items
    plan_by_index(connection)
    found: list[ImageState] = []
    for part in _parts(sorted({item.image_id for item in items})):
        all_of = [ImageState(*row) for row in connection.execute(select(*_IMAGE).where(*_of(connection, source, part)))]
        for photo in _by_photo(all_of).values():
            if all(_leaves(item, before) for item in photo.values()):
                found += photo.values()
    return found


def _leaves(item: ImageState, before: datetime) -> bool:
    done = item.state == "done" and item.reason is None and item.boxes > 0
    return done and item.committed_batch is not None and item.since < before


def _of(
    connection: Connection, source: str, image_ids: Sequence[str]
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return images.c.source == source, one_of(connection, images.c.image_id, image_ids)


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _IDS_A_QUERY):
        yield values[start : start + _IDS_A_QUERY]


def move_out(database: Database, source: str, items: Iterable[ImageState]) -> int:
    """Move photos out whose work items are exactly these. Return how many; changed ones stay.

    Each thousand is a transaction: registrations of the source wait for no longer, and a kill loses nothing.
    """
    photos = _by_photo(items)
    return sum(_move_out(database, source, {name: photos[name] for name in part}) for part in _parts(sorted(photos)))


def _by_photo(items: Iterable[ImageState]) -> dict[str, dict[str, ImageState]]:
    photos: dict[str, dict[str, ImageState]] = {}
    for item in items:
        photos.setdefault(item.image_id, {})[item.profile] = item
    return photos


def _move_out(database: Database, source: str, photos: Mapping[str, Mapping[str, ImageState]]) -> int:
    with database.atomic() as connection:
        block_registrations(connection, source)
        plan_by_index(connection)
        # Locked in the order of the key, as commits do.
        query = (
            select(*_CHANGES)
            .where(*_of(connection, source, list(photos)))
            .order_by(images.c.image_id, images.c.profile)
        )
        held: dict[str, list[tuple[object, ...]]] = {}
        for image_id, *values in connection.execute(query.with_for_update()).all():
            held.setdefault(image_id, []).append(tuple(values))
        same = [name for name, values in held.items() if values == _changeable(photos[name])]
        leaving_as = _without_taken(connection, source, same)
        leaving = {name: photos[name] for name in leaving_as.values()}
        if not leaving:
            return 0
        connection.execute(delete(images).where(*_of(connection, source, list(leaving))))
        rows = [_remembered(photo, list(leaving[name].values())) for photo, name in leaving_as.items()]
        _remember(connection, rows)
        newest = max(item.since for items in leaving.values() for item in items.values())
        last = connection.execute(select(sources.c.moved_before).where(sources.c.source == source)).scalar()
        connection.execute(
            update(sources)
            .where(sources.c.source == source)
            .values(
                moved_out=sources.c.moved_out + len(leaving),
                moves=sources.c.moves + 1,
                moved_before=newest if last is None else max(newest, last),
            )
        )
        return len(leaving)


def _without_taken(connection: Connection, source: str, image_ids: Sequence[str]) -> dict[int, str]:
    """Return the photos by their hash, without those whose hash another one has, or which the catalogue lost and got again.

    The row of the hash must stay that of the photo that left first: without it, that one would be taken for a new one.
    """
    by_hash = {photo_hash(source, name): name for name in sorted(image_ids, reverse=True)}
    taken = _read(connection, by_hash)
    return {photo: name for photo, name in by_hash.items() if photo not in taken}


def _changeable(items: Mapping[str, ImageState]) -> list[tuple[object, ...]]:
    """Return the values of _CHANGES of a photo's work items. When these stand, no other value has changed."""
    names = [column.name for column in _CHANGES[1:]]
    return [tuple(getattr(item, name) for name in names) for _, item in sorted(items.items())]


def _remember(connection: Connection, rows: list[dict[str, object]]) -> None:
    statement = insert(moved_out)
    if connection.dialect.name == "postgresql":
        told = unnested({column.name: column.type for column in moved_out.c}, rows)
        statement, rows = statement.from_select(list(told.c.keys()), select(told)), []
    connection.execute(statement, rows)


def _remembered(photo: int, items: Sequence[ImageState]) -> dict[str, object]:
    batches = {item.committed_batch for item in items}
    return {
        "photo": photo,
        "updated_at": items[0].updated_at,
        "batch_id": batches.pop() if len(batches) == 1 else None,
    }


def find(database: Database, source: str, image_ids: Collection[str]) -> MovedPhotos:
    """Return those of the photos that moved out. Reads one row when none of the source ever did."""
    with database.reading() as connection:
        moves = _moves(connection, source)
        return MovedPhotos(moves, _find(connection, source, image_ids) if moves else {})


def _moves(connection: Connection, source: str) -> int:
    return connection.execute(select(sources.c.moves).where(sources.c.source == source)).scalar() or 0


def _find(connection: Connection, source: str, image_ids: Collection[str]) -> dict[str, Remembered]:
    found: dict[str, Remembered] = {}
    for part in _parts(sorted(set(image_ids))):
        names = {photo_hash(source, image_id): image_id for image_id in part}
        found |= {names[photo]: remembered for photo, remembered in _read(connection, names).items()}
    return found


def _read(connection: Connection, photos: Collection[int]) -> dict[int, Remembered]:
    query = select(moved_out.c.photo, moved_out.c.updated_at, moved_out.c.batch_id)
    rows = connection.execute(query.where(one_of(connection, moved_out.c.photo, photos)))
    return {row.photo: Remembered(row.updated_at, row.batch_id) for row in rows}


def bring_back(database: Database, source: str, items: Sequence[ImageState]) -> None:
    """Put the work items of photos that moved out back, and forget that they did. An erased photo stays away."""
    for part in _parts(sorted({item.image_id for item in items})):
        with database.atomic() as connection:
            block_registrations(connection, source)
            stones = select(tombstones.c.image_id).where(tombstones.c.source == source, tombstones.c.image_id.in_(part))
            erased = set(connection.execute(stones).scalars())
            # What is remembered under the hash of a photo that is here is of another one.
            here = select(images.c.image_id).where(*_of(connection, source, part))
            away = set(part) - set(connection.execute(here).scalars())
            wanted = away - erased
            rows = [
                {field.name: getattr(item, field.name) for field in fields(ImageState)}
                for item in sorted(items, key=_name)
                if item.image_id in wanted
            ]
            if rows:
                connection.execute(insert(images), rows)
            drop(connection, source, away)


def drop(connection: Connection, source: str, image_ids: Collection[str]) -> None:
    """Forget that these photos moved out."""
    gone = 0
    for part in _parts(sorted(set(image_ids))):
        hashes = [photo_hash(source, image_id) for image_id in part]
        gone += connection.execute(delete(moved_out).where(one_of(connection, moved_out.c.photo, hashes))).rowcount
    if gone:
        which = update(sources).where(sources.c.source == source)
        connection.execute(which.values(moved_out=sources.c.moved_out - gone))


def check(connection: Connection, source: str, moves: int, unknown: Collection[str]) -> None:
    """Raise MovedOut when staged candidates are of photos that left since they were looked up, at ``moves``.

    ``unknown``: photos that the catalogue no longer has; they are as good as new. Holds after the lock of the source.
    """
    if _moves(connection, source) == moves:
        return
    from cropline.state.candidates import staged

    announced = set(connection.execute(select(staged.c.image_id).distinct()).scalars())
    if _find(connection, source, announced - set(unknown)):
        raise MovedOut(source)

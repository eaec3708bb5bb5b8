"""Erasures and tombstones: which images are to be erased, are erased, and must never come back.

begin                Put tombstones, in a transaction that no registration of the source overlaps. From then on no
                     announcement of these images becomes a work item.
delete_unclaimed     Delete their work items, except claimed ones, which the batch's commit counts.
delete_tombstoned    Delete those when their batch commits. An image counts as erased only when no batch holds it, so crops that
                     the batch committed are erased like the rest.
acquire_lock         Lease a source's erasures to one process at a time: two could move each other's photos into new packs.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, delete, exists, func, literal, null, or_, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from cropline.core.errors import StaleLease
from cropline.state.database import Database
from cropline.state.model import Erasure
from cropline.state.moved_out import drop
from cropline.state.requeue import WorkItemFilter
from cropline.state.source_lock import block_registrations
from cropline.state.tables import UtcTime, constant, erasures, images, sources, tombstones
from cropline.state.upsert import upsert

_IDS_A_QUERY = 1_000
_OF_WORK = (tombstones.c.source == images.c.source, tombstones.c.image_id == images.c.image_id)


def begin(
    database: Database, source: str, selection: str, which: WorkItemFilter | None, image_ids: Sequence[str]
) -> Erasure:
    """Put tombstones on the named images and on those that a filter selects; continue an unfinished erasure."""
    with database.atomic() as connection:
        now = database.now(connection)
        block_registrations(connection, source)
        erasure = _unfinished(connection, source, selection) or _new(connection, source, selection, now)
        stone = upsert(connection, tombstones)
        replaced = {"erasure_id": stone.excluded.erasure_id, "erased_at": null()}
        key = [tombstones.c.source, tombstones.c.image_id]
        rows = [
            {"source": source, "image_id": image_id, "erasure_id": erasure.erasure_id, "since": now}
            for image_id in sorted(set(image_ids))
        ]
        if rows:
            connection.execute(stone.on_conflict_do_update(index_elements=key, set_=replaced), rows)
        if which is not None:
            found = (
                select(images.c.source, images.c.image_id, literal(erasure.erasure_id), literal(now, UtcTime))
                .where(images.c.source == source, *which.clauses)
                .distinct()
                .order_by(images.c.image_id)
            )
            chosen = stone.from_select(["source", "image_id", "erasure_id", "since"], found)
            connection.execute(chosen.on_conflict_do_update(index_elements=key, set_=replaced))
        return erasure


def delete_unclaimed(database: Database, erasure_id: str) -> int:
    """Delete the work items that no batch holds; return how many. Commits and registrations lock in the same order."""
    chosen = (
        select(images.c.source, images.c.image_id, images.c.profile)
        .join(tombstones, (_OF_WORK[0]) & (_OF_WORK[1]))
        .where(tombstones.c.erasure_id == erasure_id, images.c.state != constant("claimed"))
        .order_by(images.c.source, images.c.image_id, images.c.profile)
        .with_for_update(of=images)
    )
    with database.atomic() as connection:
        # Check the state again: a claim may have been faster.
        which = tuple_(images.c.source, images.c.image_id, images.c.profile).in_(chosen)
        gone = connection.execute(delete(images).where(images.c.state != constant("claimed"), which))
        return int(gone.rowcount)


def delete_tombstoned(connection: Connection, batch_id: str, source: str) -> None:
    """Delete the batch's work items that have a tombstone, in the commit of the batch."""
    if not any_of(connection, source):
        return
    connection.execute(
        delete(images).where(
            images.c.batch_id == batch_id,
            images.c.state == constant("claimed"),
            exists().where(*_OF_WORK).correlate(images),
        )
    )


def any_of(connection: Connection, source: str) -> bool:
    """Return whether the source has tombstones. If it has none, the photos need no look-up one by one."""
    stones = select(tombstones.c.source).where(tombstones.c.source == source).limit(1)
    return connection.execute(stones).scalar() is not None


def to_erase(database: Database, erasure_id: str, limit: int) -> list[str]:
    """Return the ids of some of its images that are neither erased yet nor held by a batch."""
    query = (
        select(tombstones.c.image_id)
        .where(tombstones.c.erasure_id == erasure_id, tombstones.c.erased_at.is_(None), ~exists().where(*_OF_WORK))
        .order_by(tombstones.c.image_id)
        .limit(limit)
    )
    with database.reading() as connection:
        return list(connection.execute(query).scalars())


def in_progress(database: Database, erasure_id: str) -> int:
    """Return how many of its images a batch holds."""
    query = select(func.count()).where(
        tombstones.c.erasure_id == erasure_id, tombstones.c.erased_at.is_(None), exists().where(*_OF_WORK)
    )
    with database.reading() as connection:
        return int(connection.execute(query).scalar_one())


def mark_erased(database: Database, erasure_id: str, image_ids: Sequence[str]) -> None:
    """Record that nothing is left of these images."""
    with database.atomic() as connection:
        now = database.now(connection)
        for start in range(0, len(image_ids), _IDS_A_QUERY):
            connection.execute(
                update(tombstones)
                .where(
                    tombstones.c.erasure_id == erasure_id,
                    tombstones.c.image_id.in_(image_ids[start : start + _IDS_A_QUERY]),
                )
                .values(erased_at=now)
            )
        source = connection.execute(select(erasures.c.source).where(erasures.c.erasure_id == erasure_id)).scalar()
        drop(connection, source or "", image_ids)


def acquire_lock(database: Database, source: str, holder: str, lease: timedelta) -> bool:
    """Lock the erasures of a source until ``release_lock``, or until the lease expires. Return False when locked."""
    with database.atomic() as connection:
        now = database.now(connection)
        free = or_(sources.c.eraser.is_(None), sources.c.eraser == holder, sources.c.erasing_until <= now)
        taken = update(sources).where(sources.c.source == source, free)
        return connection.execute(taken.values(eraser=holder, erasing_until=now + lease)).rowcount == 1


def renew_lock(database: Database, source: str, holder: str, lease: timedelta) -> None:
    """Renew the lock. Raise StaleLease when its lease had expired and another process erases."""
    with database.atomic() as connection:
        mine = update(sources).where(sources.c.source == source, sources.c.eraser == holder)
        if connection.execute(mine.values(erasing_until=database.now(connection) + lease)).rowcount != 1:
            raise StaleLease(
                f"this erasure lost its lock: another process now erases images of {source} and will finish it"
            )


def release_lock(database: Database, source: str, holder: str) -> None:
    """Release the lock, unless another process has it already."""
    with database.atomic() as connection:
        mine = update(sources).where(sources.c.source == source, sources.c.eraser == holder)
        connection.execute(mine.values(eraser=null(), erasing_until=null()))


def end(database: Database, erasure_id: str) -> datetime:
    """Record that nothing is left of any of its images. Return when it first ended."""
    with database.atomic() as connection:
        now = database.now(connection)
        mine = erasures.c.erasure_id == erasure_id
        connection.execute(update(erasures).where(mine, erasures.c.ended_at.is_(None)).values(ended_at=now))
        return connection.execute(select(erasures.c.ended_at).where(mine)).scalar_one() or now


def unfinished(database: Database, source: str) -> list[Erasure]:
    """Return the unfinished erasures of a source, oldest first."""
    with database.reading() as connection:
        return [_erasure(row) for row in connection.execute(_open(source).order_by(erasures.c.began_at))]


def known(database: Database, erasure_ids: Sequence[str]) -> set[str]:
    """Return those of the erasures that began here or were restored."""
    with database.reading() as connection:
        return _ids(connection, erasures.c.erasure_id, erasure_ids)


def recall(database: Database, erasure: Erasure, ended_at: datetime, image_ids: Sequence[str]) -> list[str]:
    """Restore an ended erasure from its receipt.

    Return its images that have work items here: they may have been cropped again.
    """
    with database.atomic() as connection:
        block_registrations(connection, erasure.source)
        of = {"erasure_id": erasure.erasure_id, "source": erasure.source}
        row = of | {"selection": erasure.selection, "began_at": erasure.began_at, "ended_at": ended_at}
        connection.execute(upsert(connection, erasures).on_conflict_do_nothing(), row)
        stones = [
            of | {"image_id": name, "since": erasure.began_at, "erased_at": ended_at} for name in sorted(image_ids)
        ]
        if stones:
            connection.execute(upsert(connection, tombstones).on_conflict_do_nothing(), stones)
        return sorted(_ids(connection, images.c.image_id, image_ids, images.c.source == erasure.source))


def _ids(connection: Connection, column: Column[str], wanted: Sequence[str], *where: ColumnElement[bool]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(wanted), _IDS_A_QUERY):
        query = select(column).where(column.in_(wanted[start : start + _IDS_A_QUERY]), *where)
        found.update(connection.execute(query).scalars())
    return found


def forgotten(database: Database, source: str, image_ids: Sequence[str]) -> set[str]:
    """Return those of the images that have a tombstone."""
    with database.reading() as connection:
        return _ids(connection, tombstones.c.image_id, image_ids, tombstones.c.source == source)


def _new(connection: Connection, source: str, selection: str, now: datetime) -> Erasure:
    # Receipts sort by their ids: two within one second must keep their order.
    erasure_id = f"{now:%Y%m%d-%H%M%S-%f}-{secrets.token_hex(4)}"
    values: dict[str, Any] = {
        "erasure_id": erasure_id,
        "source": source,
        "selection": selection,
        "began_at": now,
    }
    connection.execute(upsert(connection, erasures).values(values))
    return Erasure(erasure_id, source, selection, now, resumed=False)


def _unfinished(connection: Connection, source: str, selection: str) -> Erasure | None:
    row = connection.execute(_open(source).where(erasures.c.selection == selection)).first()
    return None if row is None else _erasure(row)


def _open(source: str) -> Any:
    return select(erasures).where(erasures.c.source == source, erasures.c.ended_at.is_(None))


def _erasure(row: Any) -> Erasure:
    return Erasure(row.erasure_id, row.source, row.selection, row.began_at, resumed=True)

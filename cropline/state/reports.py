"""Read-only queries of the state for reports, single images and batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, func, or_, select

from cropline.state.database import Database
from cropline.state.held import COPIED
from cropline.state.model import (
    WORK_STATES,
    BatchState,
    Counts,
    ImageState,
    ReasonCount,
    Recrop,
    SourceState,
    StateReport,
    WorkState,
)
from cropline.state.tables import batches, binding, constant, images, outbox, profiles, sources, tallies

_IMAGE = [images.c[field.name] for field in fields(ImageState)]
_REASONS = 100
_PART = 10_000


def report(database: Database, *, last_batches: int) -> StateReport:
    """Return a summary of the state table."""
    with database.reading() as connection:
        now = database.now(connection)
        works = _works(connection)
        oldest = connection.execute(
            select(func.min(images.c.since)).where(images.c.state == constant("pending"))
        ).scalar()
        waiting = outbox.c.published_at.is_(None)
        events = connection.execute(select(func.count(), func.min(outbox.c.enqueued_at)).where(waiting)).one()
        opened = batches.c.state == constant("open")
        stale = func.count().filter(batches.c.lease_until <= now)
        leases = connection.execute(select(func.count(), stale).where(opened)).one()
        moved = connection.execute(select(func.sum(sources.c.moved_out), func.max(sources.c.moved_before))).one()
        return StateReport(
            at=now,
            images=works,
            backlog=works["pending"] + works["failed"],
            oldest_pending_since=oldest,
            oldest_pending_age=now - oldest if oldest else None,
            sources=_sources(connection, now),
            batches=_batches(
                connection,
                select(batches).order_by(batches.c.created_at.desc(), batches.c.batch_id).limit(last_batches),
            ),
            open_batches=leases[0],
            stale_batches=leases[1],
            outbox=events[0],
            oldest_event_at=events[1],
            reasons=_reasons(connection),
            unknown_batches=bool(connection.execute(select(binding.c.unknown_batches)).scalar()),
            moved_out=int(moved[0] or 0),
            moved_before=moved[1],
        )


def reasons(database: Database) -> list[ReasonCount]:
    """Return the work items that ended badly, by state and reason, most first."""
    with database.reading() as connection:
        return _reasons(connection)


def image(database: Database, source: str, image_id: str) -> list[ImageState]:
    """Return the work items of one image, by profile; empty for an unknown image."""
    query = select(*_IMAGE).where(images.c.source == source, images.c.image_id == image_id).order_by(images.c.profile)
    with database.reading() as connection:
        return [ImageState(*row) for row in connection.execute(query)]


def batch(database: Database, batch_id: str) -> BatchState | None:
    """Return one batch, or None when the id is unknown."""
    with database.reading() as connection:
        found = _batches(connection, select(batches).where(batches.c.batch_id == batch_id))
    return found[0] if found else None


def recipe(database: Database, profile_hash: str) -> str | None:
    """Return the recipe that was registered under a hash, as JSON."""
    with database.reading() as connection:
        return connection.scalar(select(profiles.c.recipe).where(profiles.c.hash == profile_hash).limit(1))


def oldest_open_batch(database: Database) -> datetime | None:
    """Return when the oldest open batch was made."""
    with database.reading() as connection:
        oldest = select(func.min(batches.c.created_at)).where(batches.c.state == constant("open"))
        return connection.execute(oldest).scalar()


def images_to_come(database: Database) -> Iterator[list[tuple[str, str]]]:
    """Yield (source, image id) of work items that will be cut again, in portions, as the driver fetches them."""
    to_come = images.c.state.in_([constant("pending"), constant("claimed"), constant("failed")])
    query = select(images.c.source, images.c.image_id).where(to_come).distinct()
    with database.reading() as connection:
        found = connection.execution_options(yield_per=_PART).execute(query)
        for part in found.partitions():
            yield [(row.source, row.image_id) for row in part]


def needed_manifests(database: Database) -> set[str]:
    """Return the manifests of work items that are not done."""
    undone = images.c.state != constant("done")
    with database.reading() as connection:
        wanted = connection.execute(select(images.c.manifest).where(undone).distinct()).scalars().all()
        claimed = select(images.c.claimed_manifest).where(images.c.state == constant("claimed"), COPIED).distinct()
        return {*wanted, *connection.execute(claimed).scalars()}


def find_images(database: Database, which: Sequence[Any], limit: int) -> list[ImageState]:
    """Return the work items that a filter of requeue.py selects, newest captured first."""
    query = select(*_IMAGE).where(*which).order_by(images.c.captured_at.desc().nulls_last(), images.c.image_id)
    with database.reading() as connection:
        return [ImageState(*row) for row in connection.execute(query.limit(limit))]


def each_image(database: Database, which: Sequence[Any]) -> Iterator[ImageState]:
    """Yield all work items that a filter of requeue.py selects, in no order, with some thousand in memory at a time."""
    with database.reading() as connection:
        rows = connection.execution_options(yield_per=5_000).execute(select(*_IMAGE).where(*which))
        for row in rows:
            yield ImageState(*row)


def endings(database: Database, which: Sequence[Any]) -> list[ReasonCount]:
    """Return how many photos failed, by state and reason, most first.

    Done photos count when they have permanent failures.
    """
    photos = func.count(images.c.image_id.distinct()).label("photos")
    bad = or_(
        images.c.state.in_([constant(state) for state in ("failed", "dead", "quarantined")]),
        and_(images.c.state == constant("done"), images.c.reason.is_not(None)),
    )
    query = (
        select(images.c.state, images.c.reason, photos)
        .where(*which, bad)
        .group_by(images.c.state, images.c.reason)
        .order_by(photos.desc(), images.c.state, images.c.reason)
        .limit(_REASONS)
    )
    with database.reading() as connection:
        return [ReasonCount(row.state, row.reason or "", row.photos) for row in connection.execute(query)]


def rows_to_rewrite(database: Database, source: str, profile: str) -> int:
    """Return how many photos of a profile only wait for new metadata in their rows."""
    waiting = (images.c.source == source, images.c.profile == profile, images.c.state == constant("pending"))
    with database.reading() as connection:
        query = select(func.count()).where(*waiting, images.c.rows_only == 1)
        return int(connection.execute(query).scalar_one())


def being_rewritten(database: Database, source: str) -> set[str]:
    """Return the images whose rows wait for new metadata."""
    now = or_(
        and_(images.c.state == constant("pending"), images.c.rows_only == 1),
        and_(images.c.state == constant("claimed"), or_(images.c.rows_only == 1, images.c.claimed_rows_only == 1)),
    )
    with database.reading() as connection:
        return set(connection.execute(select(images.c.image_id).where(images.c.source == source, now)).scalars())


def _works(connection: Connection) -> dict[WorkState, int]:
    rows = connection.execute(select(tallies.c.state, func.sum(tallies.c.works)).group_by(tallies.c.state))
    found = {state: int(works) for state, works in rows}
    return {state: found.get(state, 0) for state in WORK_STATES}


def _sources(connection: Connection, now: datetime) -> list[SourceState]:
    return [
        SourceState(
            row.source,
            row.cursor,
            row.registered_at,
            now - datetime.fromisoformat(row.cursor) if row.cursor else None,
        )
        for row in connection.execute(select(sources).order_by(sources.c.source))
    ]


def _batches(connection: Connection, query: Select[Any]) -> list[BatchState]:
    return [
        BatchState(
            batch_id=row.batch_id,
            source=row.source,
            state=row.state,
            attempt=row.attempt,
            owner=row.owner,
            created_at=row.created_at,
            lease_until=row.lease_until,
            committed_at=row.committed_at,
            images=row.images,
            works=row.works,
            counts=None if row.boxes is None else Counts(row.images, row.boxes, row.written, row.failed, row.skipped),
            catalogue_version=row.catalogue_version,
            note=row.note,
        )
        for row in connection.execute(query)
    ]


def _reasons(connection: Connection) -> list[ReasonCount]:
    """Return the reasons. Each part uses a separate index, so done items without a failure are never read."""
    ended = [constant(state) for state in ("failed", "dead", "quarantined")]
    parts = (images.c.state.in_(ended), and_(images.c.state == constant("done"), images.c.reason.is_not(None)))
    count = func.count().label("works")
    found = []
    for part in parts:
        query = select(images.c.state, images.c.reason, count).where(part).group_by(images.c.state, images.c.reason)
        found += [ReasonCount(row.state, row.reason or "", row.works) for row in connection.execute(query)]
    return sorted(found, key=lambda entry: (-entry.works, entry.state, entry.reason))[:_REASONS]


def recrops(database: Database, source: str, profile: str, profile_hash: str) -> Recrop:
    """Return the work items of a profile with another recipe than this one, and the photos that have no item of it."""
    good = images.c.state != constant("quarantined")
    other = [images.c.source == source, images.c.profile == profile, images.c.profile_hash != profile_hash, good]
    sums = [func.count(), func.coalesce(func.sum(images.c.boxes), 0), func.coalesce(func.sum(images.c.bytes), 0)]
    with database.reading() as connection:
        of_other = connection.execute(select(*sums).where(*other)).one()
        hashes = connection.execute(select(images.c.profile_hash).where(*other).distinct()).scalars().all()
        mine = images.alias("mine")
        has = select(1).where(
            mine.c.source == images.c.source, mine.c.image_id == images.c.image_id, mine.c.profile == profile
        )
        # One row per photo: the item of any profile knows its boxes and bytes.
        smaller = images.alias("smaller")
        first = (
            ~select(1)
            .where(
                smaller.c.source == images.c.source,
                smaller.c.image_id == images.c.image_id,
                smaller.c.profile < images.c.profile,
            )
            .exists()
        )
        lead = select(*sums).where(images.c.source == source, good, ~has.exists(), first)
        of_none = connection.execute(lead).one()
    return Recrop(
        profile,
        changed=int(of_other[0]),
        missing=int(of_none[0]),
        boxes=int(of_other[1] + of_none[1]),
        bytes=int(of_other[2] + of_none[2]),
        recipes=tuple(sorted(hashes)),
    )

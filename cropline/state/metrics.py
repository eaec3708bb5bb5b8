"""Read-only queries for monitoring. None of them reads finished work items, so a scrape stays cheap at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from cropline.state.database import Database
from cropline.state.tables import batches, binding, constant, erasures, flow_ends, images, outbox, sources, tallies


@dataclass(frozen=True)
class CroppedInWindow:
    """The committed batches of one source since a time. ``seconds``: from their claim to their commit, summed."""

    source: str
    batches: int
    images: int
    written: int
    failed: int
    skipped: int
    seconds: float


@dataclass(frozen=True)
class FlowEnd:
    """The last end of a deployment's runs, and the last that was complete. ``deployment`` "": run by hand."""

    flow: str
    deployment: str
    status: str
    ended_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True)
class StateMetrics:
    """What monitoring needs of the state, at one moment."""

    at: datetime
    work_items: Sequence[tuple[str, str, int]]  # source, state, number
    oldest_pending_since: datetime | None
    cursors: Sequence[tuple[str, datetime | None]]  # source, newest updated_at that was registered
    open_batches: int
    stale_batches: int  # their lease has expired
    cropped: Sequence[CroppedInWindow]
    events_waiting: int
    oldest_event_at: datetime | None
    erasures_open: int
    unknown_batches: bool
    flow_ends: Sequence[FlowEnd]
    moved_out: Sequence[tuple[str, int]] = ()  # source, photos that left the table of work items


def metrics(database: Database, *, window: timedelta) -> StateMetrics:
    """Return the figures of now. ``window``: how far back committed batches are added up."""
    with database.reading() as connection:
        now = database.now(connection)
        waiting = outbox.c.published_at.is_(None)
        # Counted in the index of waiting events: their rows hold payloads, and a collector may be down for days.
        events = connection.execute(select(func.count(), func.min(outbox.c.id)).where(waiting)).one()
        since = select(outbox.c.enqueued_at).where(outbox.c.id == events[1])
        stale = func.count().filter(batches.c.lease_until <= now)
        leases = connection.execute(select(func.count(), stale).where(batches.c.state == constant("open"))).one()
        oldest = select(func.min(images.c.since)).where(images.c.state == constant("pending"))
        opened = select(func.count()).where(erasures.c.ended_at.is_(None))
        return StateMetrics(
            at=now,
            work_items=_work_items(connection),
            oldest_pending_since=connection.execute(oldest).scalar(),
            cursors=[
                (row.source, datetime.fromisoformat(row.cursor) if row.cursor else None)
                for row in connection.execute(select(sources.c.source, sources.c.cursor).order_by(sources.c.source))
            ],
            open_batches=leases[0],
            stale_batches=leases[1],
            cropped=_cropped(connection, now - window),
            events_waiting=events[0],
            oldest_event_at=connection.execute(since).scalar() if events[0] else None,
            erasures_open=connection.execute(opened).scalar_one(),
            unknown_batches=bool(connection.execute(select(binding.c.unknown_batches)).scalar()),
            flow_ends=[FlowEnd(*row) for row in connection.execute(select(*flow_ends.c).order_by(*flow_ends.c[:2]))],
            moved_out=[
                (row.source, row.moved_out)
                for row in connection.execute(select(sources.c.source, sources.c.moved_out).order_by(sources.c.source))
            ],
        )


def _work_items(connection: Connection) -> list[tuple[str, str, int]]:
    """Return the work items by source and state. On PostgreSQL a count is spread over several rows."""
    query = select(tallies.c.source, tallies.c.state, func.sum(tallies.c.works)).group_by(
        tallies.c.source, tallies.c.state
    )
    return sorted((source, state, int(works)) for source, state, works in connection.execute(query))


def _cropped(connection: Connection, since: datetime) -> list[CroppedInWindow]:
    """Return the batches committed since a time, by source.

    A batch is committed within a day of its claim, so the index on its creation finds it.
    """
    found = connection.execute(
        select(
            batches.c.source,
            batches.c.created_at,
            batches.c.committed_at,
            batches.c.images,
            batches.c.written,
            batches.c.failed,
            batches.c.skipped,
        ).where(batches.c.created_at >= since - timedelta(days=1), batches.c.committed_at >= since)
    ).all()
    cropped: dict[str, CroppedInWindow] = {}
    for row in found:
        before = cropped.get(row.source, CroppedInWindow(row.source, 0, 0, 0, 0, 0, 0.0))
        cropped[row.source] = CroppedInWindow(
            row.source,
            batches=before.batches + 1,
            images=before.images + row.images,
            written=before.written + (row.written or 0),
            failed=before.failed + (row.failed or 0),
            skipped=before.skipped + (row.skipped or 0),
            seconds=before.seconds + (row.committed_at - row.created_at).total_seconds(),
        )
    return [cropped[source] for source in sorted(cropped)]

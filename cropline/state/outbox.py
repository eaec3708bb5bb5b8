"""The outbox: lineage events are stored in the transaction that they describe, and published later, at least once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, select, text, update

from cropline.state.database import Database
from cropline.state.model import Event
from cropline.state.tables import outbox

# How long the id of a published event is kept, so that the same event is not enqueued again.
_KEEP_PUBLISHED = timedelta(days=7)
_LONGEST_ERROR = 500
# In SQL, because SQLAlchemy compiles an upsert again at each execution: 1.2 ms of a commit.
_ENQUEUE = text(
    "INSERT INTO outbox (event_id, payload, enqueued_at, attempts) VALUES (:event_id, :payload, :enqueued_at, 0)"
    " ON CONFLICT (event_id) DO NOTHING"
).bindparams(*(bindparam(name, type_=outbox.c[name].type) for name in ("event_id", "payload", "enqueued_at")))


def enqueue(connection: Connection, events: Sequence[Event], now: datetime) -> None:
    """Add events in the caller's transaction. Duplicate events are ignored."""
    if events:
        connection.execute(
            _ENQUEUE, [{"event_id": e.event_id, "payload": e.payload, "enqueued_at": now} for e in events]
        )


def enqueue_events(database: Database, events: Sequence[Event]) -> None:
    """Add events in a transaction. Duplicate events are ignored."""
    with database.atomic() as connection:
        enqueue(connection, events, database.now(connection))


def pending_events(database: Database, limit: int) -> list[Event]:
    """Return at most ``limit`` events to publish: those that never failed first, then in the order of arrival."""
    pending = (
        select(outbox.c.event_id, outbox.c.payload, outbox.c.attempts, outbox.c.last_error, outbox.c.arrived)
        .where(outbox.c.published_at.is_(None))
        .order_by(outbox.c.attempts, outbox.c.id)
        .limit(limit)
    )
    with database.reading() as connection:
        return [
            Event(row.event_id, row.payload, row.attempts, row.last_error, _names(row.arrived))
            for row in connection.execute(pending)
        ]


def mark_published(database: Database, event_ids: Sequence[str]) -> None:
    """Mark events as published. Unknown and published ids are ignored."""
    with database.atomic() as connection:
        now = database.now(connection)
        _update_each(connection, event_ids, published_at=now, last_error=None)
        connection.execute(delete(outbox).where(outbox.c.published_at < now - _KEEP_PUBLISHED))


def mark_arrived(database: Database, arrived: Mapping[str, Sequence[str]]) -> None:
    """Record the transports that have each event. The event still waits for the others."""
    rows = [{"wanted": event_id, "names": ",".join(sorted(names))} for event_id, names in sorted(arrived.items())]
    if not rows:
        return
    which = (outbox.c.event_id == bindparam("wanted"), outbox.c.published_at.is_(None))
    with database.atomic() as connection:
        connection.execute(update(outbox).where(*which).values(arrived=bindparam("names")), rows)


def mark_publish_failed(database: Database, event_ids: Sequence[str], error: str) -> None:
    """Count a failure. Events that failed less often then come first. ``error`` must be scrubbed."""
    with database.atomic() as connection:
        _update_each(connection, event_ids, attempts=outbox.c.attempts + 1, last_error=error[:_LONGEST_ERROR])


def _names(arrived: str | None) -> tuple[str, ...]:
    return tuple(arrived.split(",")) if arrived else ()


def _update_each(connection: Connection, event_ids: Sequence[str], **values: object) -> None:
    # One at a time and in order, so that two publishers with the same events cannot deadlock.
    rows = [{"wanted": event_id} for event_id in sorted(set(event_ids))]
    if rows:
        which = (outbox.c.event_id == bindparam("wanted"), outbox.c.published_at.is_(None))
        connection.execute(update(outbox).where(*which).values(**values), rows)

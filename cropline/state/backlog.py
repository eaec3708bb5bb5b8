"""Samples of the backlog over time, kept for a limited time."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select

from cropline.state.database import Database
from cropline.state.model import BacklogSample
from cropline.state.tables import backlog_samples, constant, images, tallies
from cropline.state.upsert import upsert


def sample(database: Database, *, at_most_every: timedelta, keep: timedelta) -> bool:
    """Store a sample of the backlog. Return False when the last sample is younger than ``at_most_every``."""
    with database.reading() as connection:
        now = database.now(connection)
        last = connection.execute(select(func.max(backlog_samples.c.at))).scalar()
        if last is not None and last > now - at_most_every:
            return False
        tally = select(tallies.c.state, func.sum(tallies.c.works)).group_by(tallies.c.state)
        counts = {state: int(works) for state, works in connection.execute(tally)}
        oldest = select(func.min(images.c.since)).where(images.c.state == constant("pending"))
        since = connection.execute(oldest).scalar()
    row = {name: counts.get(name, 0) for name in ("pending", "claimed", "failed", "dead")}
    with database.atomic() as connection:
        added = upsert(connection, backlog_samples).values(at=now, oldest_pending_since=since, **row)
        connection.execute(added.on_conflict_do_nothing())
        connection.execute(delete(backlog_samples).where(backlog_samples.c.at < now - keep))
    return True


def samples(database: Database, since: datetime) -> list[BacklogSample]:
    """Return the samples since a time, oldest first."""
    columns = backlog_samples.c
    query = select(
        columns.at, columns.pending, columns.claimed, columns.failed, columns.dead, columns.oldest_pending_since
    )
    with database.reading() as connection:
        rows = connection.execute(query.where(columns.at >= since).order_by(columns.at))
        return [BacklogSample(*row) for row in rows]

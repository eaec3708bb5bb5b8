"""Active flow runs, from the stored START event to the stored end.

A killed run stores no end: its lease expires, and the next run that publishes ends it. Only the first end counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, select, update

from cropline.core.errors import StaleLease
from cropline.state.database import Database
from cropline.state.model import Event, ExpiredRun
from cropline.state.outbox import enqueue
from cropline.state.tables import flow_ends, runs
from cropline.state.upsert import upsert


def begin(database: Database, flow_run: str, start: Event, lease: timedelta) -> None:
    """Store the run and its START event, both or neither."""
    with database.atomic() as connection:
        now = database.now(connection)
        enqueue(connection, [start], now)
        connection.execute(
            upsert(connection, runs)
            .values(flow_run=flow_run, start=start.payload, alive_until=now + lease)
            .on_conflict_do_update(index_elements=[runs.c.flow_run], set_={"alive_until": now + lease})
        )


def renew(database: Database, flow_run: str, lease: timedelta) -> None:
    """Renew the run's lease. Raise StaleLease when it was ended, by itself or by a run that found its lease expired."""
    with database.atomic() as connection:
        alive = update(runs).where(runs.c.flow_run == flow_run).values(alive_until=database.now(connection) + lease)
        if connection.execute(alive).rowcount != 1:
            raise StaleLease(f"run {flow_run} has ended")


def end(database: Database, flow_run: str, events: Sequence[Event], *, expired_only: bool = False) -> bool:
    """Enqueue the run's end. Return False, and do nothing, when it has ended already.

    ``expired_only``: do nothing when its lease was renewed since.
    """
    with database.atomic() as connection:
        now = database.now(connection)
        which = [runs.c.flow_run == flow_run, *([runs.c.alive_until <= now] if expired_only else [])]
        if connection.execute(delete(runs).where(*which)).rowcount != 1:
            return False
        enqueue(connection, events, now)
        return True


def expired(database: Database) -> list[ExpiredRun]:
    """Return the runs with expired leases, the longest expired first."""
    with database.reading() as connection:
        now = database.now(connection)
        found = select(runs.c.flow_run, runs.c.start, runs.c.alive_until).where(runs.c.alive_until <= now)
        return [ExpiredRun(*row) for row in connection.execute(found.order_by(runs.c.alive_until))]


def note_end(database: Database, flow: str, deployment: str, status: str) -> None:
    """Record how the last run of a deployment ended, and when one was last COMPLETE."""
    with database.atomic() as connection:
        now = database.now(connection)
        ended = {"status": status, "ended_at": now} | ({"completed_at": now} if status == "COMPLETE" else {})
        connection.execute(
            upsert(connection, flow_ends)
            .values(flow=flow, deployment=deployment, **ended)
            .on_conflict_do_update(index_elements=[flow_ends.c.flow, flow_ends.c.deployment], set_=ended)
        )

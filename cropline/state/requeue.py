"""replay: make ended work items pending again. They are then claimed like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import null, select, update
from sqlalchemy.sql.elements import ColumnElement

from cropline.state.database import Database
from cropline.state.model import WorkState
from cropline.state.tables import constant, images

_REQUEUEABLE: frozenset[str] = frozenset({"failed", "dead", "done"})


@dataclass(frozen=True)
class WorkItemFilter:
    """Selects work items; None or empty selects any. Times are capture times: since <= captured_at < until."""

    states: Sequence[WorkState] = ()
    reasons: Sequence[str] = ()
    sources: Sequence[str] = ()
    stores: Sequence[str] = ()
    profiles: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    cameras: Sequence[str] = ()
    images: Sequence[str] = ()  # image ids, at most some thousands: each is a bound parameter

    @property
    def clauses(self) -> list[ColumnElement[bool]]:
        """Return the conditions, to be joined by AND."""
        chosen: list[ColumnElement[bool]] = []
        if self.states:
            chosen.append(images.c.state.in_([constant(state) for state in self.states]))
        for column, values in (
            (images.c.reason, self.reasons),
            (images.c.source, self.sources),
            (images.c.store_id, self.stores),
            (images.c.profile, self.profiles),
            (images.c.camera_id, self.cameras),
            (images.c.image_id, self.images),
        ):
            if values:
                chosen.append(column.in_(list(values)))
        if self.since is not None:
            chosen.append(images.c.captured_at >= self.since)
        if self.until is not None:
            chosen.append(images.c.captured_at < self.until)
        return chosen


def requeue(database: Database, which: WorkItemFilter) -> int:
    """Make failed, dead or done items pending now, with all their attempts again. Return how many.

    Raise ValueError for states that cannot be requeued: claimed items are in progress, and quarantined ones
    come back with a good version.
    """
    if not which.states or not set(which.states) <= _REQUEUEABLE:
        raise ValueError("only failed, dead and done work items can be requeued")
    # Locked in the order of the key, as registrations and commits do.
    chosen = (
        select(images.c.source, images.c.image_id, images.c.profile)
        .where(*which.clauses)
        .order_by(images.c.source, images.c.image_id, images.c.profile)
        .with_for_update()
        .subquery("chosen")
    )
    with database.atomic() as connection:
        requeued = connection.execute(
            update(images)
            .where(
                images.c.source == chosen.c.source,
                images.c.image_id == chosen.c.image_id,
                images.c.profile == chosen.c.profile,
            )
            .values(
                state="pending",
                since=database.now(connection),
                attempts=0,
                retry_at=null(),
                reason=null(),
                rows_only=null(),
            )
        )
        return int(requeued.rowcount)

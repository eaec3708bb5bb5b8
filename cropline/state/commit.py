"""commit: end a batch. One transaction updates its work items and the batch and writes the outbox, or nothing happens.

The catalogue's commit comes first.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Connection,
    Insert,
    Integer,
    Select,
    Update,
    bindparam,
    case,
    delete,
    func,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from cropline.core.errors import NotReconciled, StaleLease
from cropline.state.binding import remember
from cropline.state.bulk import unnested
from cropline.state.database import Database, plan_by_index
from cropline.state.held import HELD, freed
from cropline.state.model import Batch, Committed, Counts, Event, Outcome
from cropline.state.outbox import enqueue
from cropline.state.tables import AnyText, UtcTime, batches, constant, images, tallies
from cropline.state.tombstones import delete_tombstoned

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = ("image_id", "profile")
_JITTER = 1.5
# The columns of a batch's work items. 1 in ``changed``: another fingerprint is wanted now; in ``corrected``: it has other
# metadata now. ``claimed`` is the fingerprint. It, boxes and rows_only are as claimed.
_TEXTS, _NUMBERS = (*_KEY, "claimed"), ("changed", "corrected", "attempts", "boxes", "rows_only")


_END: dict[str, TypeEngine[Any]] = {
    "for_image": AnyText(),
    "for_profile": AnyText(),
    "new_state": AnyText(),
    "new_reason": AnyText(),
    "new_attempts": Integer(),
    "new_retry_at": UtcTime(),
    "new_rows_only": Integer(),
}


@dataclass(frozen=True)
class Retries:
    """When and how often a transient failure is retried.

    Jitter spreads the images of an outage over half of the wait, also when the wait is the longest one or
    comes from the photos' host.
    """

    max_attempts: int
    backoff: timedelta
    cap: timedelta

    def wait(self, attempts: int, retry_after_s: int | None) -> timedelta:
        """Return the wait after failure number ``attempts`` (from 1).

        A wait that the host asks for counts up to the cap.
        """
        longest = self.cap / _JITTER
        exponential = min(self.backoff * (1 << min(attempts - 1, 30)), longest)
        asked = timedelta(seconds=retry_after_s or 0)
        return min(max(exponential, asked) * random.uniform(1.0, _JITTER), self.cap)  # noqa: S311 - no secret


@dataclass(frozen=True)
class CommitRequest:
    """The input of a commit besides the batch."""

    outcomes: pa.Table | Iterable[Outcome]  # OUTCOMES
    counts: Counts
    catalogue_version: int | None
    events: Sequence[Event]
    unknown_batches: bool = False  # batches that are unknown here were committed before it


def commit(database: Database, batch: Batch, request: CommitRequest, retries: Retries) -> Committed:
    """End the batch.

    Raise StaleLease when another attempt owns it, NotReconciled when the outcomes are not those of its work
    items or the counts do not add up. Committing again under the same attempt (the reply was lost) changes
    nothing.
    """
    from cropline.state.outcomes import as_table

    # Before the transaction: slow outcomes must not hold a lock.
    told = as_table(request.outcomes).sort_by([(name, "ascending") for name in _KEY])
    with database.atomic() as connection:
        if _fenced(connection, batch):
            return Committed(0, 0, 0, 0, already=True)
        now = database.now(connection)
        members = _members(connection, batch)
        plan_by_index(connection)
        _match(batch, members, told)
        _reconcile(batch, members, request.counts)
        delete_tombstoned(connection, batch.batch_id, batch.source)
        committed = _apply_outcomes(connection, batch, members, told, retries, now)
        _close(connection, batch, request, now)
        enqueue(connection, request.events, now)
        _fold_tallies(connection)
        return committed


def _fenced(connection: Connection, batch: Batch) -> bool:
    """Return whether this attempt has committed already. Locks the batch until the transaction ends."""
    row = connection.execute(
        select(batches.c.attempt, batches.c.state).where(batches.c.batch_id == batch.batch_id).with_for_update()
    ).one_or_none()
    if row is None or row.attempt != batch.attempt:
        raise StaleLease(f"batch {batch.batch_id}: attempt {batch.attempt} no longer owns it")
    return bool(row.state == "committed")


def _members(connection: Connection, batch: Batch) -> pa.Table:
    """Return the batch's work items, sorted by the key, and locked in this order, as registrations lock them."""
    import pyarrow as pa

    from cropline.state.rows import fetch

    schema = pa.schema([*((name, pa.string()) for name in _TEXTS), *((name, pa.int64()) for name in _NUMBERS)])
    # Sorted again: PostgreSQL sorts texts as they are escaped.
    members = fetch(connection, _members_query(), schema, {"batch": batch.batch_id})
    return members.sort_by([(name, "ascending") for name in _KEY])


@cache  # building a statement takes as long as executing it
def _members_query() -> Select[Any]:
    return (
        select(
            images.c.image_id, images.c.profile, images.c.claimed_fingerprint,
            # Compared here: a commit of thousands pays for each text that it reads.
            case((images.c.fingerprint != images.c.claimed_fingerprint, 1), else_=0),
            case((images.c.metadata.is_distinct_from(HELD["claimed_metadata"]), 1), else_=0),
            images.c.attempts, HELD["claimed_boxes"], HELD["claimed_rows_only"],
        )
        .where(images.c.batch_id == bindparam("batch"), images.c.state == constant("claimed"))
        .order_by(images.c.image_id, images.c.profile)  # of one source
        .with_for_update()
    )  # fmt: skip


def _match(batch: Batch, members: pa.Table, told: pa.Table) -> None:
    """Check that there is exactly one outcome for each work item. Both tables are sorted by the key."""
    import pyarrow.compute as pc

    name = f"batch {batch.batch_id}"
    if not all(told[column].equals(members[column]) for column in _KEY):
        works = told.group_by(_KEY).aggregate([]).num_rows
        raise NotReconciled(
            f"{name} holds {members.num_rows} work items; got {told.num_rows} outcomes for {works} of them"
        )
    same = pc.and_(pc.equal(told["source"], batch.source), pc.equal(told["fingerprint"], members["claimed"]))
    reasoned = pc.or_(told["ok"], pc.is_valid(told["transient_reason"]))
    for holds, problem in ((same, "is not of the claimed fingerprint"), (reasoned, "is not ok but has no reason")):
        at = pc.index(pc.fill_null(holds, False), False).as_py()
        if at >= 0:
            image_id, profile = (told[column][at].as_py() for column in _KEY)
            raise NotReconciled(f"{name}: the outcome of {image_id!r}, {profile} {problem}")


def _reconcile(batch: Batch, members: pa.Table, counts: Counts) -> None:
    """Check that boxes in = written + failed + skipped, using the claimed numbers, not the caller's."""

    from cropline.state.membership import firsts

    boxes_of = members["boxes"].take(firsts(members["image_id"]))
    images_in, boxes_in, due = len(boxes_of), _sum(boxes_of), _sum(members["boxes"])
    ended = counts.written + counts.failed + counts.skipped
    if (counts.images, counts.boxes, ended) != (images_in, boxes_in, due):
        raise NotReconciled(
            f"batch {batch.batch_id}: {images_in} images with {boxes_in} boxes make {due} crops; counted were"
            f" {counts.images} images, {counts.boxes} boxes, {counts.written} written + {counts.failed} failed"
            f" + {counts.skipped} skipped"
        )


def _sum(numbers: pa.ChunkedArray) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(numbers, min_count=0).as_py())


def _apply_outcomes(
    connection: Connection, batch: Batch, members: pa.Table, told: pa.Table, retries: Retries, now: datetime
) -> Committed:
    import pyarrow.compute as pc

    changed, corrected = (pc.equal(members[name], 1) for name in ("changed", "corrected"))
    other = pc.or_(pc.invert(told["ok"]), pc.is_valid(told["permanent_reason"]))
    special = _special(members, told, pc.and_(pc.invert(changed), pc.or_(corrected, other)), retries, now)
    if special:
        _end_items(connection, batch, special, now)
    # All others, which are nearly all, in one statement.
    connection.execute(_all_others(), {"batch": batch.batch_id, "now": now})
    ends = [row["new_state"] for row in special]
    failed, dead = ends.count("failed"), ends.count("dead")
    again = _sum(pc.or_(changed, corrected))
    return Committed(told.num_rows - failed - dead - again, failed, dead, again, already=False)


@cache
def _all_others() -> Update:
    wanted = images.c.fingerprint == images.c.claimed_fingerprint
    return (
        update(images)
        .where(images.c.batch_id == bindparam("batch"), images.c.state == constant("claimed"))
        .values(
            state=case((wanted, "done"), else_="pending"),
            since=bindparam("now", type_=UtcTime),
            reason=null(),
            attempts=0,
            rows_only=null(),
            committed_batch=bindparam("batch"),
            **freed(),
        )
    )


def _special(
    members: pa.Table, told: pa.Table, which: pa.ChunkedArray, retries: Retries, now: datetime
) -> list[dict[str, object]]:
    """Return the ends of the chosen work items as rows. They are few, unless the photos' host is down."""
    outcomes = [Outcome(**row) for row in told.filter(which).to_pylist()]
    held = zip(
        *(members.filter(which)[name].to_pylist() for name in ("corrected", "attempts", "rows_only")), strict=True
    )
    return [
        _ended(outcome, attempts, rows_only, retries, now) | (_ROWS_AGAIN if corrected else {})
        for outcome, (corrected, attempts, rows_only) in zip(outcomes, held, strict=True)
    ]


def _ended(
    outcome: Outcome, attempts: int, rows_only: int | None, retries: Retries, now: datetime
) -> dict[str, object]:
    row: dict[str, object] = {"for_image": outcome.image_id, "for_profile": outcome.profile}
    if outcome.ok:
        return row | _end("done", outcome.permanent_reason, 0, None)
    # When only rows were rewritten, nothing was cut: the failure is an earlier one.
    attempts = attempts if rows_only else attempts + 1
    if attempts >= retries.max_attempts:
        return row | _end("dead", outcome.transient_reason, attempts, None)
    retry_at = now + retries.wait(max(attempts, 1), outcome.retry_after_s)
    return row | _end("failed", outcome.transient_reason, attempts, retry_at)


def _end(state: str, reason: str | None, attempts: int, retry_at: datetime | None) -> dict[str, object]:
    return {
        "new_state": state,
        "new_reason": reason,
        "new_attempts": attempts,
        "new_retry_at": retry_at,
        "new_rows_only": None,
    }


# The metadata changed while the batch held the item: its crops are done, and its rows must be written again.
_ROWS_AGAIN: dict[str, object] = {"new_state": "pending", "new_reason": None, "new_retry_at": None, "new_rows_only": 1}


def _end_items(connection: Connection, batch: Batch, ends: Sequence[Mapping[str, object]], now: datetime) -> None:
    """Set each item's new state. One statement on PostgreSQL: after an outage it covers every item of the batch."""
    told: Any
    if connection.dialect.name == "postgresql":
        told = unnested(_END, ends).c
    else:
        told = SimpleNamespace(**{name: bindparam(name, type_=kind) for name, kind in _END.items()})
    statement = (
        update(images)
        .where(
            images.c.source == batch.source,
            images.c.image_id == told.for_image,
            images.c.profile == told.for_profile,
        )
        .values(
            state=told.new_state,
            since=now,
            reason=told.new_reason,
            attempts=told.new_attempts,
            retry_at=told.new_retry_at,
            rows_only=told.new_rows_only,
            committed_batch=batch.batch_id,
            **freed(),
        )
    )
    connection.execute(statement, None if connection.dialect.name == "postgresql" else [dict(row) for row in ends])


def _close(connection: Connection, batch: Batch, request: CommitRequest, now: datetime) -> None:
    counts = request.counts
    connection.execute(
        update(batches)
        .where(batches.c.batch_id == batch.batch_id)
        .values(
            state="committed",
            committed_at=now,
            boxes=counts.boxes,
            written=counts.written,
            failed=counts.failed,
            skipped=counts.skipped,
            catalogue_version=request.catalogue_version,
        )
    )
    if request.catalogue_version is not None:
        remember(connection, request.catalogue_version, unknown_batches=request.unknown_batches)


def _fold_tallies(connection: Connection) -> None:
    """Sum up the rows that statements left. SQLite keeps one row per source and state by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(_sums_of_tallies())


@cache
def _sums_of_tallies() -> Insert:
    some = select(tallies.c.id).limit(10_000).with_for_update(skip_locked=True).cte("some")
    gone = (
        delete(tallies)
        .where(tallies.c.id.in_(select(some.c.id)))
        .returning(tallies.c.source, tallies.c.state, tallies.c.works)
        .cte("gone")
    )
    sums = select(gone.c.source, gone.c.state, func.sum(gone.c.works)).group_by(gone.c.source, gone.c.state)
    return insert(tallies).from_select(["source", "state", "works"], sums)

"""commit: end a batch. One transaction updates its work items and the batch and writes the outbox, or nothing happens.

The catalogue's commit comes first.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Integer, bindparam, case, delete, func, insert, null, select, update
from sqlalchemy.types import TypeEngine

from cropline.core.errors import NotReconciled, StaleLease
from cropline.state.binding import remember
from cropline.state.bulk import unnested
from cropline.state.database import Database, plan_by_index
from cropline.state.model import Batch, Committed, Counts, Event, Outcome
from cropline.state.outbox import enqueue
from cropline.state.tables import AnyText, UtcTime, batches, constant, images, tallies
from cropline.state.tombstones import delete_tombstoned

_Key = tuple[str, str]  # image id, profile

_JITTER = 1.5


class _ClaimedItem(NamedTuple):
    """One work item of the batch, as the table has it."""

    changed: bool  # another fingerprint is wanted now
    corrected: bool  # it has other metadata now
    attempts: int
    claimed: str  # fingerprint
    boxes: int  # as claimed
    rows_only: int | None  # as claimed


_END: dict[str, TypeEngine[Any]] = {
    "for_image": AnyText(),
    "for_profile": AnyText(),
    "new_state": AnyText(),
    "new_reason": AnyText(),
    "new_attempts": Integer(),
    "new_retry_at": UtcTime(),
    "new_rows_only": Integer(),
}
_UNCLAIMED = {
    "claimed_hash": null(),
    "claimed_fingerprint": null(),
    "claimed_manifest": null(),
    "claimed_row": null(),
    "claimed_boxes": null(),
    "claimed_metadata": null(),
    "claimed_rows_only": null(),
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

    outcomes: Iterable[Outcome]
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
    told = list(request.outcomes)  # before the transaction: slow outcomes must not hold a lock
    with database.atomic() as connection:
        if _fenced(connection, batch):
            return Committed(0, 0, 0, 0, already=True)
        now = database.now(connection)
        members = _members(connection, batch)
        plan_by_index(connection)
        outcomes = _matched(batch, members, told)
        _reconcile(batch, members, request.counts)
        delete_tombstoned(connection, batch.batch_id)
        committed = _apply_outcomes(connection, batch, members, outcomes, retries, now)
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


def _members(connection: Connection, batch: Batch) -> dict[_Key, _ClaimedItem]:
    """Return the batch's work items, locked in the order of the key, as registrations lock them."""
    rows = connection.execute(
        select(
            images.c.image_id, images.c.profile,
            # Compared here: a commit of thousands pays for each text that it reads.
            images.c.fingerprint != images.c.claimed_fingerprint,
            images.c.metadata.is_distinct_from(images.c.claimed_metadata),
            images.c.attempts, images.c.claimed_fingerprint, images.c.claimed_boxes, images.c.claimed_rows_only,
        )
        .where(images.c.batch_id == batch.batch_id, images.c.state == constant("claimed"))
        .order_by(images.c.source, images.c.image_id, images.c.profile)
        .with_for_update()
    )  # fmt: skip
    # All at once: fetching row by row takes twice as long.
    return {(image_id, profile): _ClaimedItem(*values) for image_id, profile, *values in rows.all()}


def _matched(batch: Batch, members: Mapping[_Key, _ClaimedItem], told: Sequence[Outcome]) -> dict[_Key, Outcome]:
    """Return the outcomes by work item, exactly one for each."""
    name = f"batch {batch.batch_id}"
    outcomes = {(outcome.image_id, outcome.profile): outcome for outcome in told}
    if len(told) != len(members) or outcomes.keys() != members.keys():
        raise NotReconciled(
            f"{name} holds {len(members)} work items; got {len(told)} outcomes for {len(outcomes)} of them"
        )
    for key, outcome in outcomes.items():
        if outcome.source != batch.source or outcome.fingerprint != members[key].claimed:
            raise NotReconciled(f"{name}: the outcome of {key[0]!r}, {key[1]} is not of the claimed fingerprint")
        if not outcome.ok and outcome.transient_reason is None:
            raise NotReconciled(f"{name}: the outcome of {key[0]!r}, {key[1]} is not ok but has no reason")
    return outcomes


def _reconcile(batch: Batch, members: Mapping[_Key, _ClaimedItem], counts: Counts) -> None:
    """Check that boxes in = written + failed + skipped, using the claimed numbers, not the caller's."""
    boxes_of = {image_id: held.boxes for (image_id, _), held in members.items()}
    images_in, boxes_in = len(boxes_of), sum(boxes_of.values())
    due = sum(held.boxes for held in members.values())
    ended = counts.written + counts.failed + counts.skipped
    if (counts.images, counts.boxes, ended) != (images_in, boxes_in, due):
        raise NotReconciled(
            f"batch {batch.batch_id}: {images_in} images with {boxes_in} boxes make {due} crops; counted were"
            f" {counts.images} images, {counts.boxes} boxes, {counts.written} written + {counts.failed} failed"
            f" + {counts.skipped} skipped"
        )


def _apply_outcomes(
    connection: Connection,
    batch: Batch,
    members: Mapping[_Key, _ClaimedItem],
    outcomes: Mapping[_Key, Outcome],
    retries: Retries,
    now: datetime,
) -> Committed:
    changed = {key for key, held in members.items() if held.changed}
    corrected = {key for key, held in members.items() if held.corrected and not held.changed}
    special = [
        _ended(members[key], outcome, retries, now) | ({} if key not in corrected else _ROWS_AGAIN)
        for key, outcome in outcomes.items()
        if key not in changed and (not outcome.ok or outcome.permanent_reason is not None or key in corrected)
    ]
    if special:
        _end_items(connection, batch, special, now)
    # All others, which are nearly all, in one statement.
    wanted = images.c.fingerprint == images.c.claimed_fingerprint
    connection.execute(
        update(images)
        .where(images.c.batch_id == batch.batch_id, images.c.state == constant("claimed"))
        .values(
            state=case((wanted, "done"), else_="pending"),
            since=now,
            reason=null(),
            attempts=0,
            rows_only=null(),
            committed_batch=batch.batch_id,
            **_UNCLAIMED,
        )
    )
    ends = [row["new_state"] for row in special]
    failed, dead = ends.count("failed"), ends.count("dead")
    again = len(changed) + len(corrected)
    return Committed(len(members) - failed - dead - again, failed, dead, again, already=False)


def _ended(held: _ClaimedItem, outcome: Outcome, retries: Retries, now: datetime) -> dict[str, object]:
    row: dict[str, object] = {"for_image": outcome.image_id, "for_profile": outcome.profile}
    if outcome.ok:
        return row | _end("done", outcome.permanent_reason, 0, None)
    # When only rows were rewritten, nothing was cut: the failure is an earlier one.
    attempts = held.attempts if held.rows_only else held.attempts + 1
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
            **_UNCLAIMED,
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
    if connection.dialect.name != "postgresql":
        return
    some = select(tallies.c.id).limit(10_000).with_for_update(skip_locked=True).cte("some")
    gone = (
        delete(tallies)
        .where(tallies.c.id.in_(select(some.c.id)))
        .returning(tallies.c.source, tallies.c.state, tallies.c.works)
        .cte("gone")
    )
    sums = select(gone.c.source, gone.c.state, func.sum(gone.c.works)).group_by(gone.c.source, gone.c.state)
    connection.execute(insert(tallies).from_select(["source", "state", "works"], sums))

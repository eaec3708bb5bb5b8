"""commit: end a batch. One transaction updates its work items and the batch and writes the outbox, or nothing happens.

The catalogue's commit comes first.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
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

_KEY = attrgetter("image_id", "profile")
_JITTER = 1.5


class _Members(NamedTuple):
    """The columns of the batch's work items, sorted by image and profile.

    They are columns because an object for each row costs a commit of thousands too much time.
    """

    image_ids: list[str]
    profiles: list[str]
    changed: list[int]  # 1: another fingerprint is wanted now
    corrected: list[int]  # 1: it has other metadata now
    attempts: list[int]
    claimed: list[str]  # fingerprint
    boxes: list[int]  # as claimed
    rows_only: list[int | None]  # as claimed


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
        delete_tombstoned(connection, batch.batch_id, batch.source)
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


def _members(connection: Connection, batch: Batch) -> _Members:
    """Return the batch's work items, locked in the order of the key, as registrations lock them."""
    import pyarrow as pa

    from cropline.state.rows import fetch

    query = (
        select(
            images.c.image_id, images.c.profile,
            # Compared here: a commit of thousands pays for each text that it reads.
            case((images.c.fingerprint != images.c.claimed_fingerprint, 1), else_=0),
            case((images.c.metadata.is_distinct_from(images.c.claimed_metadata), 1), else_=0),
            images.c.attempts, images.c.claimed_fingerprint, images.c.claimed_boxes, images.c.claimed_rows_only,
        )
        .where(images.c.batch_id == batch.batch_id, images.c.state == constant("claimed"))
        .order_by(images.c.image_id, images.c.profile)  # of one source
        .with_for_update()
    )  # fmt: skip
    texts = {"image_ids", "profiles", "claimed"}
    schema = pa.schema([(name, pa.string() if name in texts else pa.int64()) for name in _Members._fields])
    # Sorted again: PostgreSQL sorts texts as they are escaped.
    rows = fetch(connection, query, schema).sort_by([("image_ids", "ascending"), ("profiles", "ascending")])
    return _Members(*(column.to_pylist() for column in rows.columns))


def _matched(batch: Batch, members: _Members, told: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes in the order of the work items, exactly one for each."""
    name = f"batch {batch.batch_id}"
    outcomes = sorted(told, key=_KEY)
    image_ids, profiles = [each.image_id for each in outcomes], [each.profile for each in outcomes]
    if image_ids != members.image_ids or profiles != members.profiles:
        raise NotReconciled(
            f"{name} holds {len(members.claimed)} work items; got {len(told)} outcomes for {len(set(map(_KEY, told)))}"
            " of them"
        )
    for outcome, claimed in zip(outcomes, members.claimed, strict=True):
        if outcome.source != batch.source or outcome.fingerprint != claimed:
            raise NotReconciled(
                f"{name}: the outcome of {outcome.image_id!r}, {outcome.profile} is not of the claimed fingerprint"
            )
        if not outcome.ok and outcome.transient_reason is None:
            raise NotReconciled(
                f"{name}: the outcome of {outcome.image_id!r}, {outcome.profile} is not ok but has no reason"
            )
    return outcomes


def _reconcile(batch: Batch, members: _Members, counts: Counts) -> None:
    """Check that boxes in = written + failed + skipped, using the claimed numbers, not the caller's."""
    boxes_of = dict(zip(members.image_ids, members.boxes, strict=True))
    images_in, boxes_in = len(boxes_of), sum(boxes_of.values())
    due = sum(members.boxes)
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
    members: _Members,
    outcomes: Sequence[Outcome],
    retries: Retries,
    now: datetime,
) -> Committed:
    held = zip(outcomes, members.changed, members.corrected, members.attempts, members.rows_only, strict=True)
    special = [
        _ended(outcome, attempts, rows_only, retries, now) | (_ROWS_AGAIN if corrected else {})
        for outcome, changed, corrected, attempts, rows_only in held
        if not changed and (corrected or not outcome.ok or outcome.permanent_reason is not None)
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
    both = zip(members.changed, members.corrected, strict=True)
    again = sum(1 for changed, corrected in both if changed or corrected)
    return Committed(len(outcomes) - failed - dead - again, failed, dead, again, already=False)


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

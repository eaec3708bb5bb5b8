"""Batches: claim work items under a lease, renew it, and release it.

A batch has one source and fixed members: every attempt gets the same work items, because the catalogue may hold them
already. A takeover of an expired lease raises ``attempt``; the holder of the old number can neither renew nor commit.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from cropline.core.errors import StaleLease
from cropline.state.database import Database, plan_by_index
from cropline.state.held import COPIED
from cropline.state.model import Batch
from cropline.state.queue import (
    ClaimedItems,
    ClaimRequest,
    claim_items,
    has_claimable,
    has_several_profiles,
    sources_in_turn,
)
from cropline.state.tables import batches, constant, images, profiles

if TYPE_CHECKING:
    import pyarrow as pa

# After this many attempts a batch is resumed only when there is nothing else, so one that kills its workers
# blocks no other.
_PATIENCE = 3

_OPEN = batches.c.state == constant("open")
_CLAIMED = images.c.state == constant("claimed")


def claim(database: Database, request: ClaimRequest) -> Batch | None:
    """Return a batch under a new lease, or None when there is no work.

    Never waits for another claim, commit or poll.
    """
    # An idle claim takes no lock: on SQLite each writer does, and on PostgreSQL statements that find nothing take none.
    if database.dialect == "sqlite" and not _finds_work(database, request):
        return None
    with database.atomic() as connection:
        now = database.now(connection)
        if request.images is not None:
            return _claim_new(connection, request, now)
        return (
            _resume(connection, request, now, batches.c.attempt <= _PATIENCE)
            or _claim_new(connection, request, now)
            or _resume(connection, request, now, batches.c.attempt > _PATIENCE)
        )


def resume(database: Database, request: ClaimRequest) -> Batch | None:
    """Return a stale batch under a new lease, or None."""
    with database.reading() as connection:
        if not connection.execute(
            select(select(1).where(*_stale(request, database.now(connection))).exists())
        ).scalar():
            return None
    with database.atomic() as connection:
        now = database.now(connection)
        return _resume(connection, request, now, batches.c.attempt >= 0)


def has_work(database: Database, names: Sequence[str] | None) -> bool:
    """Return whether a claim would find work now. The cost does not grow with finished work."""
    return _finds_work(database, ClaimRequest(1, "", names, None, timedelta()))


def renew(database: Database, batch: Batch, lease: timedelta) -> None:
    """Renew the lease. Do nothing when this attempt has committed, which it may not know.

    Raise StaleLease when another attempt owns the batch.
    """
    with database.atomic() as connection:
        mine = (batches.c.batch_id == batch.batch_id, batches.c.attempt == batch.attempt)
        committed = select(1).where(*mine, batches.c.state == constant("committed"))
        if connection.execute(committed).scalar() is None:
            _update_lease(connection, batch, lease_until=database.now(connection) + lease)


def readdress(database: Database, batch: Batch, moved: Mapping[tuple[str, int], tuple[str, int]]) -> None:
    """Move the places of the batch's images: place (manifest, row) -> place. Retries read the new places too.

    Raise StaleLease when another attempt owns the batch.
    """
    with database.atomic() as connection:
        locked = select(1).where(batches.c.batch_id == batch.batch_id, batches.c.attempt == batch.attempt, _OPEN)
        if connection.execute(locked.with_for_update()).scalar() is None:
            raise StaleLease(f"batch {batch.batch_id}: attempt {batch.attempt} no longer owns it")
        _lock_items(connection, batch.batch_id)
        for (manifest, row), (to_manifest, to_row) in sorted(moved.items()):
            mine = (images.c.batch_id == batch.batch_id, _CLAIMED)
            # Keep a place that was announced since: it is newer than the requested one.
            still = (images.c.manifest == manifest, images.c.manifest_row == row)
            connection.execute(update(images).where(*mine, *still).values(manifest=to_manifest, manifest_row=to_row))
            claimed = (images.c.claimed_manifest == manifest, images.c.claimed_row == row)
            connection.execute(
                update(images).where(*mine, *claimed).values(claimed_manifest=to_manifest, claimed_row=to_row)
            )


def release(database: Database, batch: Batch, reason: str) -> None:
    """Expire the lease now. The next claim resumes the batch under the same id, since the catalogue may hold it.

    Raise StaleLease when another attempt owns the batch or it has ended.
    """
    with database.atomic() as connection:
        _update_lease(connection, batch, lease_until=database.now(connection), note=reason)


def _update_lease(connection: Connection, batch: Batch, **values: object) -> None:
    ours = (batches.c.batch_id == batch.batch_id, batches.c.attempt == batch.attempt, _OPEN)
    if connection.execute(update(batches).where(*ours).values(**values)).rowcount != 1:
        raise StaleLease(f"batch {batch.batch_id}: attempt {batch.attempt} no longer owns it")


def _finds_work(database: Database, request: ClaimRequest) -> bool:
    with database.reading() as connection:
        now = database.now(connection)
        stale = select(select(1).where(*_stale(request, now)).exists())
        if request.images is None and connection.execute(stale).scalar():
            return True
        return has_claimable(connection, request, now)


def _stale(request: ClaimRequest, now: datetime) -> list[ColumnElement[bool]]:
    mine = [] if request.sources is None else [batches.c.source.in_(request.sources)]
    return [_OPEN, batches.c.lease_until <= now, *mine]


def _resume(connection: Connection, request: ClaimRequest, now: datetime, which: ColumnElement[bool]) -> Batch | None:
    oldest = (
        select(batches.c.batch_id)
        .where(*_stale(request, now), which)
        .order_by(batches.c.lease_until)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = connection.execute(
        update(batches)
        .where(batches.c.batch_id == oldest)
        .values(attempt=batches.c.attempt + 1, owner=request.owner, lease_until=now + request.lease)
        .returning(batches)
    ).one_or_none()
    if taken is None:
        return None
    from cropline.state.membership import MEMBERS, RESUMED
    from cropline.state.rows import fetch

    _readdress(connection, taken.batch_id)
    members = select(*RESUMED).where(images.c.batch_id == taken.batch_id, _CLAIMED)
    return _batch(connection, taken, fetch(connection, members, MEMBERS))


def _readdress(connection: Connection, batch_id: str) -> None:
    """Take the newest announced place of the same work: its URL may be the only one that still opens.

    Not when the metadata changed too: the catalogue may hold the batch's rows as they were claimed.
    """
    mine = (images.c.batch_id == batch_id, _CLAIMED)
    _lock_items(connection, batch_id)
    connection.execute(
        update(images)
        .where(
            *mine,
            images.c.fingerprint == images.c.claimed_fingerprint,
            COPIED,  # of the others, the wanted place is the batch's
            images.c.metadata.is_not_distinct_from(images.c.claimed_metadata),
        )
        .values(claimed_manifest=images.c.manifest, claimed_row=images.c.manifest_row)
    )


def _lock_items(connection: Connection, batch_id: str) -> None:
    """Lock the batch's work items in the order of the key, as registrations do.

    An update locks rows as it meets them, so that it and a registration could each wait for the other.
    """
    items = select(images.c.image_id).where(images.c.batch_id == batch_id, _CLAIMED)
    # A batch is of one source.
    connection.execute(items.order_by(images.c.image_id, images.c.profile).with_for_update()).all()


def _claim_new(connection: Connection, request: ClaimRequest, now: datetime) -> Batch | None:
    plan_by_index(connection, sort=False)
    several = has_several_profiles(connection)
    claimed = ClaimedItems(f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(6)}", now)
    for source in sources_in_turn(connection, request):
        claim_items(connection, request, source, claimed, several=several)
        if claimed.members:
            return _open(connection, request, source, claimed)
    return None


def _open(connection: Connection, request: ClaimRequest, source: str, claimed: ClaimedItems) -> Batch:
    values = {
        "batch_id": claimed.batch_id,
        "source": source,
        "state": "open",
        "attempt": 1,
        "owner": request.owner,
        "created_at": claimed.now,
        "lease_until": claimed.now + request.lease,
        "images": claimed.images,
        "works": claimed.works,
    }
    import pyarrow as pa

    opened = connection.execute(insert(batches).values(values).returning(batches)).one()
    return _batch(connection, opened, pa.concat_tables(claimed.members))


def _batch(connection: Connection, row: Any, members: pa.Table) -> Batch:
    import pyarrow.compute as pc

    from cropline.state.membership import claim_table

    members = members.sort_by([("image_id", "ascending"), ("profile", "ascending")])  # which are unique
    wanted = profiles.c.hash.in_(sorted(pc.unique(members["profile_hash"]).to_pylist()))
    recipes = {(found.name, found.hash): found.recipe for found in connection.execute(select(profiles).where(wanted))}
    superseded = members.filter(pc.is_valid(members["catalogued"]))
    rewritten = members.filter(pc.not_equal(members["rows_only"], 0))
    return Batch(
        batch_id=row.batch_id,
        attempt=row.attempt,
        source=row.source,
        created_at=row.created_at,
        resumed=row.attempt > 1,
        lease_until=row.lease_until,
        images=claim_table(row.source, members, recipes),
        superseding=[(row.source, image_id, profile) for image_id, profile in _names(superseded)],
        committed_in=frozenset(pc.unique(superseded["catalogued"]).to_pylist()),
        rewriting=frozenset(_names(rewritten)),
    )


def _names(members: pa.Table) -> list[tuple[str, str]]:
    return list(zip(members["image_id"].to_pylist(), members["profile"].to_pylist(), strict=True))

"""The queue in the table of works: what can be claimed, in which order, and taking it.

Belongs here: choosing and locking works. Does not: the lease on what was taken (batches.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, and_, column, exists, func, null, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from cropline.state.database import plan_by_index
from cropline.state.membership import COLUMNS, Member
from cropline.state.tables import batches, constant, images, profiles, sources

# Of a batch's images at least one in so many is a retry that is due, if there are any: new work never starves them.
_RETRY_SHARE = 10


@dataclass(frozen=True)
class ClaimRequest:
    """What a claim asks for."""

    limit: int
    owner: str
    source: str | None
    profiles: Sequence[str] | None
    lease: timedelta
    images: Sequence[str] | None = None  # ids: these and no others


@dataclass
class ClaimedItems:
    """What a new batch has caught so far."""

    batch_id: str
    now: datetime
    members: list[Member] = field(default_factory=list)

    @property
    def images(self) -> int:
        """How many images."""
        return len({member.image_id for member in self.members})


def has_claimable(connection: Connection, request: ClaimRequest, now: datetime) -> bool:
    """Whether there is work that ``claim_items`` would find."""
    plan_by_index(connection, sort=False)
    return any(
        connection.execute(select(select(1).where(images.c.source == source, kind).exists())).scalar()
        for source in sources_in_turn(connection, request)
        for kind in (_pending(request), _due(request, now))
    )


def sources_in_turn(connection: Connection, request: ClaimRequest) -> list[str]:
    """Whose turn it is: the source whose last batch is the longest ago comes first."""
    if request.source is not None:
        return [request.source]
    last = select(func.max(batches.c.created_at)).where(batches.c.source == sources.c.source).scalar_subquery()
    return list(connection.execute(select(sources.c.source).order_by(last.asc().nulls_first())).scalars())


def claim_items(
    connection: Connection, request: ClaimRequest, source: str, batch_id: str, now: datetime
) -> ClaimedItems:
    """Claim up to ``request.limit`` images of a source for a batch: some retries, then the newest photos, then more retries."""
    plan_by_index(connection, sort=False)
    several = len(set(connection.execute(select(profiles.c.name)).scalars())) > 1
    claimed = ClaimedItems(batch_id, now)

    def due(table: Any) -> ColumnElement[bool]:
        return _due(request, now, table)

    def pending(table: Any) -> ColumnElement[bool]:
        return _pending(request, table)

    for kind, order, share in (
        (due, images.c.retry_at, request.limit // _RETRY_SHARE),
        (pending, images.c.captured_at.desc().nulls_last(), request.limit),
        (due, images.c.retry_at, request.limit),
    ):
        room = share - claimed.images
        if room > 0:
            first = select(_place(connection, images)).where(images.c.source == source, kind(images))
            chosen = first.order_by(order).limit(room)
            if several:
                chosen = _with_siblings(connection, chosen, kind, request, claimed)
            _mark(connection, claimed, chosen if several else _locked(chosen, images))
    return claimed


def _place(connection: Connection, table: Any) -> ColumnElement[Any]:
    # Where the row lies, as both databases know it: it need not be found by its key a second time.
    place: Any = column("ctid" if connection.dialect.name == "postgresql" else "rowid")
    place.table = table
    label: ColumnElement[Any] = place.label("place")
    return label


def _locked(query: Select[Any], table: Any) -> Select[Any]:
    # Never wait: neither for another claim nor for a registration or commit that is changing the row.
    return query.with_for_update(skip_locked=True, of=table)


def _with_siblings(
    connection: Connection, chosen: Select[Any], kind: Any, request: ClaimRequest, claimed: ClaimedItems
) -> Select[Any]:
    """The claimable works of the chosen images, so that a photo is fetched once for all of its profiles.

    An image is locked by the first of its works: no two claims take parts of the same image. Works that came from
    another manifest row are left for the next batch, also when the image's others were caught as retries.
    """
    other, work, caught = images.alias("other"), images.alias("work"), images.alias("caught")
    first = ~exists().where(
        other.c.source == images.c.source,
        other.c.image_id == images.c.image_id,
        other.c.profile < images.c.profile,
        kind(other),
    )
    if claimed.members:
        first &= ~exists().where(
            caught.c.source == images.c.source,
            caught.c.image_id == images.c.image_id,
            caught.c.batch_id == claimed.batch_id,
        )
    same = ("source", "image_id", "manifest", "manifest_row")
    led = _locked(chosen.with_only_columns(*(images.c[name] for name in same)).where(first), images).cte("led")
    siblings = (
        select(_place(connection, work))
        .join(led, and_(*(work.c[name] == led.c[name] for name in same)))
        .where(or_(_pending(request, work), _due(request, claimed.now, work)))
    )
    return _locked(siblings, work)


def _mark(connection: Connection, claimed: ClaimedItems, chosen: Select[Any]) -> None:
    found = chosen.cte("chosen")
    statement = (
        update(images)
        .where(_place(connection, images) == found.c.place)
        .values(
            state="claimed",
            since=claimed.now,
            retry_at=null(),
            batch_id=claimed.batch_id,
            claimed_hash=images.c.profile_hash,
            claimed_fingerprint=images.c.fingerprint,
            claimed_manifest=images.c.manifest,
            claimed_row=images.c.manifest_row,
            claimed_boxes=images.c.boxes,
            claimed_metadata=images.c.metadata,
            claimed_rows_only=images.c.rows_only,
        )
        .returning(*COLUMNS)
    )
    claimed.members += [Member(*row) for row in connection.execute(statement)]


def _pending(request: ClaimRequest, table: Any = images) -> ColumnElement[bool]:
    return and_(_state(table) == constant("pending"), *_requested(request, table))


def _due(request: ClaimRequest, now: datetime, table: Any = images) -> ColumnElement[bool]:
    return and_(_state(table) == constant("failed"), table.c.retry_at <= now, *_requested(request, table))


def _requested(request: ClaimRequest, table: Any) -> list[ColumnElement[bool]]:
    named = [] if request.profiles is None else [table.c.profile.in_(request.profiles)]
    return named if request.images is None else [*named, table.c.image_id.in_(request.images)]


def _state(table: Any) -> ColumnElement[str]:
    # Rows that are found by their key must be found by it alone, not by an index of states: see plan_by_index.
    state: ColumnElement[str] = table.c.state if table is images else func.coalesce(table.c.state, "")
    return state

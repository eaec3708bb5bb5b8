"""The work queue: which work items can be claimed, in which order, and the claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, and_, column, exists, func, null, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from cropline.state.database import plan_by_index
from cropline.state.tables import batches, constant, images, profiles, sources

if TYPE_CHECKING:
    import pyarrow as pa

# At least one in this many images of a batch is a due retry, if there is one: new work never starves retries.
_RETRY_SHARE = 10


@dataclass(frozen=True)
class ClaimRequest:
    """The options of a claim."""

    limit: int
    owner: str
    sources: Sequence[str] | None  # None: all of them
    profiles: Sequence[str] | None
    lease: timedelta
    images: Sequence[str] | None = None  # claim only these image ids


@dataclass
class ClaimedItems:
    """What a new batch has claimed so far."""

    batch_id: str
    now: datetime
    members: list[pa.Table] = field(default_factory=list)  # membership.MEMBERS, in parts that have rows

    @property
    def works(self) -> int:
        """The number of work items."""
        return sum(part.num_rows for part in self.members)

    @property
    def images(self) -> int:
        """The number of images. No two parts share one."""
        import pyarrow.compute as pc

        return sum(pc.count_distinct(part["image_id"]).as_py() for part in self.members)


def as_names(source: str | Sequence[str] | None) -> Sequence[str] | None:
    """Return one name or several as a sequence; None is every source."""
    return [source] if isinstance(source, str) else source


def has_claimable(connection: Connection, request: ClaimRequest, now: datetime) -> bool:
    """Return whether ``claim_items`` would find work."""
    plan_by_index(connection, sort=False)
    return any(
        connection.execute(select(select(1).where(images.c.source == source, kind).exists())).scalar()
        for source in sources_in_turn(connection, request)
        for kind in (_pending(request), _due(request, now))
    )


def sources_in_turn(connection: Connection, request: ClaimRequest) -> list[str]:
    """Return the sources, the one whose last batch is the oldest first."""
    if request.sources is not None and len(request.sources) == 1:
        return list(request.sources)
    last = select(func.max(batches.c.created_at)).where(batches.c.source == sources.c.source).scalar_subquery()
    named = select(sources.c.source).order_by(last.asc().nulls_first(), sources.c.source)
    if request.sources is not None:
        named = named.where(sources.c.source.in_(request.sources))
    return list(connection.execute(named).scalars())


def has_several_profiles(connection: Connection) -> bool:
    """Return whether an image may have several work items."""
    return connection.execute(select(func.count(profiles.c.name.distinct()))).scalar_one() > 1


def claim_items(
    connection: Connection, request: ClaimRequest, source: str, claimed: ClaimedItems, *, several: bool
) -> None:
    """Claim up to ``request.limit`` images of a source: some retries, the newest photos, then more retries.

    Call plan_by_index(sort=False) first. ``several``: see has_several_profiles.
    """

    def due(table: Any) -> ColumnElement[bool]:
        return _due(request, claimed.now, table)

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


def _place(connection: Connection, table: Any) -> ColumnElement[Any]:
    # The row's physical place in both databases: saves a second look-up by its key.
    place: Any = column("ctid" if connection.dialect.name == "postgresql" else "rowid")
    place.table = table
    label: ColumnElement[Any] = place.label("place")
    return label


def _locked(query: Select[Any], table: Any) -> Select[Any]:
    # Never wait for another claim, or for a registration or commit that is changing the row.
    return query.with_for_update(skip_locked=True, of=table)


def _with_siblings(
    connection: Connection, chosen: Select[Any], kind: Any, request: ClaimRequest, claimed: ClaimedItems
) -> Select[Any]:
    """Return the claimable work items of the chosen images, so that a photo is fetched once for all its profiles.

    An image is locked by the first of its work items: no two claims take parts of the same image. Items from
    another manifest row are left for the next batch, also when the image's other items were claimed as
    retries.
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
    # Lazy: an idle poll needs no Arrow.
    from cropline.state.membership import CLAIMED, MEMBERS
    from cropline.state.rows import fetch

    found = chosen.cte("chosen")
    statement = (
        update(images)
        .where(_place(connection, images) == found.c.place)
        .values(
            state="claimed",
            since=claimed.now,
            retry_at=null(),
            batch_id=claimed.batch_id,
            claimed_fingerprint=images.c.fingerprint,
        )
        .returning(*CLAIMED)
    )
    part = fetch(connection, statement, MEMBERS)
    if part.num_rows:
        claimed.members.append(part)


def _pending(request: ClaimRequest, table: Any = images) -> ColumnElement[bool]:
    return and_(_state(table) == constant("pending"), *_requested(request, table))


def _due(request: ClaimRequest, now: datetime, table: Any = images) -> ColumnElement[bool]:
    return and_(_state(table) == constant("failed"), table.c.retry_at <= now, *_requested(request, table))


def _requested(request: ClaimRequest, table: Any) -> list[ColumnElement[bool]]:
    named = [] if request.profiles is None else [table.c.profile.in_(request.profiles)]
    return named if request.images is None else [*named, table.c.image_id.in_(request.images)]


def _state(table: Any) -> ColumnElement[str]:
    # These rows must be found by their key alone, not by an index of states (see plan_by_index).
    state: ColumnElement[str] = table.c.state if table is images else func.coalesce(table.c.state, "")
    return state

"""The work queue: which work items can be claimed, in which order, and the claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import (
    BindParameter,
    Connection,
    Select,
    and_,
    bindparam,
    column,
    exists,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.sql.elements import ColumnElement

from cropline.state.database import plan_by_index
from cropline.state.tables import UtcTime, batches, constant, images, profiles, sources

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["pending", "due"]
_KINDS: tuple[Kind, ...] = ("pending", "due")

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

    @property
    def values(self) -> dict[str, object]:
        """The values of the statements' parameters."""
        named = {"of_profiles": self.profiles, "of_images": self.images}
        return {name: list(given) for name, given in named.items() if given is not None}


class _Filters(NamedTuple):
    """Which filters a claim has."""

    profiles: bool
    images: bool

    @classmethod
    def of(cls, request: ClaimRequest) -> _Filters:
        """Return those of a request."""
        return cls(request.profiles is not None, request.images is not None)


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
    filters, values = _Filters.of(request), request.values | {"now": now}
    return any(
        connection.execute(_exists(kind, filters), values | {"of_source": source}).scalar()
        for source in sources_in_turn(connection, request)
        for kind in _KINDS
    )


@cache
def _exists(kind: Kind, filters: _Filters) -> Select[Any]:
    return select(
        select(1).where(images.c.source == bindparam("of_source"), _claimable(kind, filters, images)).exists()
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
    # Lazy: an idle poll needs no Arrow.
    from cropline.state.membership import MEMBERS
    from cropline.state.rows import fetch

    values = request.values | {"of_source": source, "now": claimed.now, "batch": claimed.batch_id}
    shares: Sequence[tuple[Kind, int]] = (
        ("due", request.limit // _RETRY_SHARE),
        ("pending", request.limit),
        ("due", request.limit),
    )
    for kind, share in shares:
        room = share - claimed.images
        if room > 0:
            siblings = (_Siblings.MORE if claimed.members else _Siblings.FIRST) if several else None
            statement = _marking(connection.dialect.name, kind, _Filters.of(request), siblings)
            part = fetch(connection, statement, MEMBERS, values | {"room": room})
            if part.num_rows:
                claimed.members.append(part)


class _Siblings(Enum):
    """Claims of all profiles of an image: the first part of a batch, and parts that leave out the images of earlier ones."""

    FIRST = auto()
    MORE = auto()


@cache  # building a statement takes as long as executing it
def _marking(dialect: str, kind: Kind, filters: _Filters, siblings: _Siblings | None) -> ReturningUpdate[Any]:
    """Return the statement that claims up to ``room`` images and returns MEMBERS."""
    from cropline.state.membership import CLAIMED

    order = images.c.retry_at if kind == "due" else images.c.captured_at.desc().nulls_last()
    first = select(_place(dialect, images)).where(
        images.c.source == bindparam("of_source"), _claimable(kind, filters, images)
    )
    chosen = first.order_by(order).limit(bindparam("room"))
    chosen = _locked(chosen, images) if siblings is None else _with_siblings(dialect, chosen, kind, filters, siblings)
    found = chosen.cte("chosen")
    return (
        update(images)
        .where(_place(dialect, images) == found.c.place)
        .values(
            state="claimed",
            since=_now(),
            retry_at=null(),
            batch_id=bindparam("batch"),
            claimed_fingerprint=images.c.fingerprint,
        )
        .returning(*CLAIMED)
    )


def _place(dialect: str, table: Any) -> ColumnElement[Any]:
    # The row's physical place in both databases: saves a second look-up by its key.
    place: Any = column("ctid" if dialect == "postgresql" else "rowid")
    place.table = table
    label: ColumnElement[Any] = place.label("place")
    return label


def _locked(query: Select[Any], table: Any) -> Select[Any]:
    # Never wait for another claim, or for a registration or commit that is changing the row.
    return query.with_for_update(skip_locked=True, of=table)


def _with_siblings(
    dialect: str, chosen: Select[Any], kind: Kind, filters: _Filters, siblings: _Siblings
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
        _claimable(kind, filters, other),
    )
    if siblings is _Siblings.MORE:
        first &= ~exists().where(
            caught.c.source == images.c.source,
            caught.c.image_id == images.c.image_id,
            caught.c.batch_id == bindparam("batch"),
        )
    same = ("source", "image_id", "manifest", "manifest_row")
    led = _locked(chosen.with_only_columns(*(images.c[name] for name in same)).where(first), images).cte("led")
    found = (
        select(_place(dialect, work))
        .join(led, and_(*(work.c[name] == led.c[name] for name in same)))
        .where(or_(*(_claimable(any_kind, filters, work) for any_kind in _KINDS)))
    )
    return _locked(found, work)


def _claimable(kind: Kind, filters: _Filters, table: Any) -> ColumnElement[bool]:
    # Other tables than images must be read by their key alone, not by an index of states (see plan_by_index).
    state = table.c.state if table is images else func.coalesce(table.c.state, "")
    which = [state == constant("pending")]
    if kind == "due":
        which = [state == constant("failed"), table.c.retry_at <= _now()]
    if filters.profiles:
        which.append(table.c.profile.in_(bindparam("of_profiles", expanding=True)))
    if filters.images:
        which.append(table.c.image_id.in_(bindparam("of_images", expanding=True)))
    return and_(*which)


def _now() -> BindParameter[datetime]:
    return bindparam("now", type_=UtcTime)

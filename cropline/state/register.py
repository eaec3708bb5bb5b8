"""register: turn a manifest into work items, in one transaction. This is the deduplication.

What a candidate does, by the state of its work item:

    candidate \\ work item   unknown      pending, failed, dead   claimed              done       quarantined
    same fingerprint         -            nothing                 nothing              nothing    pending
    new fingerprint          pending      pending                 claimed, then again  pending    pending
    older updated_at         -            nothing                 nothing              nothing    pending
    quarantined              quarantined  nothing                 nothing              nothing    quarantined, newer reason

The same fingerprint with other metadata (known.py) rewrites rows only, unless its updated_at is older.
A bad version never replaces good work: the crops of the last good version stay, and quarantine holds the bad row.
A good version always ends a quarantine, even when it is older than the bad one: an old crop is better than none.
A candidate of an erased image (tombstones.py) always does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, case, exists, func, insert, literal, null, or_, select, true, update
from sqlalchemy.sql.elements import ColumnElement

from cropline.core.errors import StateError
from cropline.state.bulk import one_of
from cropline.state.database import Database, keep_in_memory, plan_by_index
from cropline.state.held import kept
from cropline.state.known import update_known
from cropline.state.model import Registered, Registration
from cropline.state.moved_out import check
from cropline.state.outbox import enqueue
from cropline.state.recent import remember_items
from cropline.state.tables import (
    UtcTime,
    constant,
    images,
    manifests,
    profiles,
    recent_items,
    sources,
    tallies,
    tombstones,
)
from cropline.state.tombstones import any_of
from cropline.state.upsert import upsert

_KEY = ("source", "image_id", "profile")
_WANTED = (
    "profile_hash", "version", "fingerprint", "manifest", "manifest_row", "boxes", "bytes",
    "captured_at", "updated_at", "store_id", "camera_id", "metadata",
)  # fmt: skip
_DIGESTS_A_QUERY = 1_000


def cursor(database: Database, source: str) -> str | None:
    """Return the last saved poll position."""
    with database.reading() as connection:
        return connection.execute(select(sources.c.cursor).where(sources.c.source == source)).scalar()


def quiet_for(database: Database, source: str) -> timedelta | None:
    """Return how long the source's API must not be called yet, as it asked."""
    with database.reading() as connection:
        until = connection.execute(select(sources.c.quiet_until).where(sources.c.source == source)).scalar()
        left = None if until is None else until - database.now(connection)
    return left if left is not None and left > timedelta(0) else None


def keep_quiet(database: Database, source: str, wait: timedelta) -> None:
    """Record that the source's API asked for a pause of ``wait`` from now on."""
    with database.atomic() as connection:
        until = database.now(connection) + wait
        statement = upsert(connection, sources).values(source=source, quiet_until=until)
        connection.execute(
            statement.on_conflict_do_update(index_elements=[sources.c.source], set_={"quiet_until": until})
        )


def readdressed(database: Database, source: str, addresses: Mapping[str, tuple[str, str]]) -> set[str]:
    """Return the items (by digest: image id, digest of the address) with a new address that their work item needs.

    A done item needs none. When nothing is left to do, this reads only the counts.
    """
    undone = [constant(state) for state in ("pending", "claimed", "failed", "dead")]
    left = select(func.coalesce(func.sum(tallies.c.works), 0)).where(
        tallies.c.source == source, tallies.c.state.in_(undone)
    )
    found: set[str] = set()
    if not addresses:
        return found
    ordered = sorted(addresses)
    with database.reading() as connection:
        if not connection.execute(left).scalar():
            return found
        for start in range(0, len(ordered), _DIGESTS_A_QUERY):
            part = ordered[start : start + _DIGESTS_A_QUERY]
            needing = select(images.c.image_id).where(
                images.c.source == source,
                one_of(connection, images.c.image_id, {addresses[digest][0] for digest in part}),
                images.c.state.in_(undone),
            )
            wanted = set(connection.execute(needing).scalars())
            part = [digest for digest in part if addresses[digest][0] in wanted]
            known = select(recent_items.c.digest, recent_items.c.url).where(
                recent_items.c.source == source, one_of(connection, recent_items.c.digest, part)
            )
            found.update(digest for digest, url in connection.execute(known) if url != addresses[digest][1])
    return found


def manifest_registered(database: Database, manifest: str) -> bool:
    """Return whether this manifest was registered."""
    with database.reading() as connection:
        return _earlier(connection, manifest) is not None


def register(database: Database, registration: Registration) -> Registered:
    """Register the whole manifest and move the cursor, or do nothing. See the table above.

    Raise MovedOut when photos of it left the table and were not looked up in the catalogue: look them up, and try again.
    """
    from cropline.state.candidates import Staging

    position = _position(registration.cursor)
    with database.atomic() as connection:
        earlier = _earlier(connection, registration.manifest)
        if earlier is not None:
            return earlier
        staging = Staging(connection, registration.source)
        staging.fill(registration.rows)
        now = database.now(connection)
        # From here on registrations of a source run one by one. Candidates are staged already, so the wait is short.
        _move_cursor(connection, registration.source, position, now)
        earlier = _earlier(connection, registration.manifest)
        if earlier is None:
            check(connection, registration.source, registration.moves, registration.unknown)
            new, changed = _merge(connection, registration.source, now)
            known = staging.rows - staging.quarantined - new - changed
            corrected = update_known(connection, now) if known else 0
            registered = Registered(
                new, changed, known - corrected, staging.quarantined, already=False, corrected=corrected
            )
            _remember(connection, registration, registered, now)
        staging.drop()
        return earlier or registered


def _earlier(connection: Connection, manifest: str) -> Registered | None:
    row = connection.execute(select(manifests).where(manifests.c.manifest == manifest)).one_or_none()
    if row is None:
        return None
    return Registered(row.new, row.changed, row.known, row.quarantined, already=True, corrected=row.corrected)


def _position(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise StateError("a cursor must be a time in ISO 8601") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def _move_cursor(connection: Connection, source: str, position: datetime | None, now: datetime) -> None:
    statement = upsert(connection, sources).values(source=source, registered_at=now)
    statement = statement.on_conflict_do_update(index_elements=[sources.c.source], set_={"registered_at": now})
    saved = _position(connection.execute(statement.returning(sources.c.cursor)).scalar())
    # Two polls may overlap, and the one that began first may end last.
    if position is not None and (saved is None or position > saved):
        connection.execute(
            update(sources).where(sources.c.source == source).values(cursor=position.astimezone(UTC).isoformat())
        )


def _merge(connection: Connection, source: str, now: datetime) -> tuple[int, int]:
    """Insert and update work items by the staged candidates. Return (new, changed).

    Two statements, because ON CONFLICT would look up each new key once more. All that insert work items hold the lock of
    the source, so no key appears between the two.
    """
    from cropline.state.candidates import best, staged

    plan_by_index(connection)
    keep_in_memory(connection)
    told = best(connection)
    # Without tombstones of this source, as nearly always, no candidate needs a look-up.
    allowed = [~_forgotten(told)] if any_of(connection, source) else []
    inserted, new = _counted(connection, _inserted(told, allowed, now))
    if inserted == connection.execute(select(func.count()).select_from(staged)).scalar_one():
        return new, 0
    _, changed = _counted(connection, _updated(told, allowed, now))
    return new, changed


def _counted(connection: Connection, statement: Any) -> tuple[int, int]:
    """Run a statement on work items. Return how many it wrote, and how many of them are good."""
    returning = statement.returning(images.c.state)
    if connection.dialect.name == "postgresql":
        written = returning.cte("written")
        counts = select(func.count(), func.count().filter(written.c.state != "quarantined")).select_from(written)
        every, good = connection.execute(counts).one()
        return every, good
    states = connection.execute(returning).scalars().all()
    return len(states), len(states) - states.count("quarantined")


def _inserted(ranked: Any, allowed: Sequence[ColumnElement[bool]], now: datetime) -> Any:
    """Return the insert of the best candidate of each new work item, in the order of the key."""
    moment = literal(now, UtcTime)
    known = exists().where(*(images.c[name] == ranked.c[name] for name in _KEY))
    names = [*_KEY, "state", "reason", *_WANTED]
    chosen = (
        select(*(ranked.c[name] for name in names), moment, moment, literal(0))
        .where(~known, *allowed)
        .order_by(ranked.c.image_id, ranked.c.profile)
    )
    return insert(images).from_select([*names, "since", "first_seen", "attempts"], chosen)


def _updated(ranked: Any, allowed: Sequence[ColumnElement[bool]], now: datetime) -> Any:
    """Return the update of known work items that a candidate takes over. Others are only read: a lock is a write."""
    moment = literal(now, UtcTime)
    claimed = images.c.state == "claimed"
    told = ("state", "reason", *_WANTED)
    chosen = (
        select(*(images.c[name] for name in _KEY), *(ranked.c[name].label(f"told_{name}") for name in told))
        .join(ranked, and_(*(ranked.c[name] == images.c[name] for name in _KEY)))
        .where(_takes_over(ranked.c), *allowed)
        # Locked in the order of the key, as commits do.
        .order_by(images.c.image_id, images.c.profile)
        .with_for_update(of=images)
        .subquery("chosen")
    )
    return (
        update(images)
        .where(*(images.c[name] == chosen.c[name] for name in _KEY))
        .values(
            {
                **kept(),
                **{name: chosen.c[f"told_{name}"] for name in _WANTED},
                "state": case((claimed, images.c.state), else_=chosen.c.told_state),
                "since": case((claimed, images.c.since), else_=moment),
                "reason": chosen.c.told_reason,
                "attempts": 0,
                "retry_at": null(),
                "rows_only": null(),
                "changed_at": moment,
            }
        )
    )


def _forgotten(ranked: Any) -> ColumnElement[bool]:
    return exists().where(tombstones.c.source == ranked.c.source, tombstones.c.image_id == ranked.c.image_id)


def _takes_over(wanted: Any) -> ColumnElement[bool]:
    not_older = func.coalesce(wanted.updated_at >= images.c.updated_at, true())
    quarantined = images.c.state == "quarantined"
    return or_(
        and_(
            wanted.state == "pending",
            or_(quarantined, and_(images.c.fingerprint != wanted.fingerprint, not_older)),
        ),
        and_(
            wanted.state == "quarantined",
            quarantined,
            not_older,
            or_(
                images.c.version != wanted.version,
                images.c.fingerprint != wanted.fingerprint,
                images.c.reason.is_distinct_from(wanted.reason),
            ),
        ),
    )


def _remember(connection: Connection, registration: Registration, registered: Registered, now: datetime) -> None:
    """Record the manifest, its items, the recipes and the events, so that the next poll is cheap and this one final."""
    connection.execute(
        insert(manifests).values(
            manifest=registration.manifest,
            source=registration.source,
            registered_at=now,
            new=registered.new,
            changed=registered.changed,
            known=registered.known,
            quarantined=registered.quarantined,
            corrected=registered.corrected,
        )
    )
    remember_items(connection, registration, now)
    recipes = [
        {"name": name, "hash": hash_, "recipe": recipe, "first_seen": now}
        for name, (hash_, recipe) in sorted(registration.profiles.items())
    ]
    if recipes:
        connection.execute(upsert(connection, profiles).on_conflict_do_nothing(), recipes)
    enqueue(connection, registration.events, now)

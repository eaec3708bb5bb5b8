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

from sqlalchemy import Connection, and_, case, delete, exists, func, insert, literal, null, or_, select, true, update
from sqlalchemy.sql.elements import ColumnElement

from cropline.core.errors import StateError
from cropline.state.bulk import unnested
from cropline.state.database import Database, plan_by_index
from cropline.state.known import update_known
from cropline.state.model import Registered, Registration
from cropline.state.moved_out import check
from cropline.state.outbox import enqueue
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
from cropline.state.upsert import upsert

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


def unseen(database: Database, source: str, digests: Sequence[str]) -> set[str]:
    """Return the digests that no registration of this source has recorded within the overlap window."""
    wanted = set(digests)
    ordered = sorted(wanted)
    with database.reading() as connection:
        for start in range(0, len(ordered), _DIGESTS_A_QUERY):
            found = select(recent_items.c.digest).where(
                recent_items.c.source == source,
                recent_items.c.digest.in_(ordered[start : start + _DIGESTS_A_QUERY]),
            )
            wanted.difference_update(connection.execute(found).scalars())
    return wanted


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
                images.c.image_id.in_([addresses[digest][0] for digest in part]),
                images.c.state.in_(undone),
            )
            wanted = set(connection.execute(needing).scalars())
            part = [digest for digest in part if addresses[digest][0] in wanted]
            known = select(recent_items.c.digest, recent_items.c.url).where(
                recent_items.c.source == source, recent_items.c.digest.in_(part)
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
            new, changed = _merge(connection, now)
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


def _merge(connection: Connection, now: datetime) -> tuple[int, int]:
    """Upsert the staged candidates. Return (new, changed)."""
    plan_by_index(connection)
    statement = upsert(connection, images)
    wanted = statement.excluded
    claimed = images.c.state == "claimed"
    moment = literal(now, UtcTime)
    statement = statement.from_select(
        ["source", "image_id", "profile", "state", "reason", *_WANTED, "since", "first_seen", "attempts"],
        _chosen(moment),
    ).on_conflict_do_update(
        index_elements=[images.c.source, images.c.image_id, images.c.profile],
        set_={
            **{name: wanted[name] for name in _WANTED},
            "state": case((claimed, images.c.state), else_=wanted.state),
            "since": case((claimed, images.c.since), else_=moment),
            "reason": wanted.reason,
            "attempts": 0,
            "retry_at": null(),
            "rows_only": null(),
            "changed_at": moment,
        },
        where=_takes_over(wanted),
    )
    returning = statement.returning(images.c.state, images.c.changed_at)
    if connection.dialect.name == "postgresql":
        merged = returning.cte("merged")
        good, fresh = merged.c.state != "quarantined", merged.c.changed_at.is_(None)
        counts = select(func.count().filter(good, fresh), func.count().filter(good, ~fresh))
        new, changed = connection.execute(counts).one()
        return new, changed
    # Checked in Python: SQLite 3.40 returns 0 for "x IS NULL" in RETURNING when another column is NOT NULL.
    times = [row.changed_at for row in connection.execute(returning) if row.state != "quarantined"]
    return times.count(None), len(times) - times.count(None)


def _chosen(now: ColumnElement[datetime]) -> Any:
    """Return the best candidate per work item, in the order of the key, so that transactions lock rows in one order."""
    from cropline.state.candidates import best

    ranked = best()
    # Skip known items by reading them. ON CONFLICT alone would lock each first, and a lock is a write: for a
    # million known items nearly every page of the table.
    known = exists().where(
        images.c.source == ranked.c.source,
        images.c.image_id == ranked.c.image_id,
        images.c.profile == ranked.c.profile,
        images.c.fingerprint == ranked.c.fingerprint,
        images.c.state != "quarantined",
        ranked.c.state == "pending",
    )
    forgotten = exists().where(tombstones.c.source == ranked.c.source, tombstones.c.image_id == ranked.c.image_id)
    names = ["source", "image_id", "profile", "state", "reason", *_WANTED]
    return (
        select(*(ranked.c[name] for name in names), now, now, literal(0))
        .where(~known, ~forgotten)
        .order_by(ranked.c.source, ranked.c.image_id, ranked.c.profile)
    )


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
    _remember_items(connection, registration, now)
    recipes = [
        {"name": name, "hash": hash_, "recipe": recipe, "first_seen": now}
        for name, (hash_, recipe) in sorted(registration.profiles.items())
    ]
    if recipes:
        connection.execute(upsert(connection, profiles).on_conflict_do_nothing(), recipes)
    enqueue(connection, registration.events, now)


def _remember_items(connection: Connection, registration: Registration, now: datetime) -> None:
    source, horizon = registration.source, registration.forget_digests_before
    connection.execute(delete(recent_items).where(recent_items.c.source == source, recent_items.c.updated_at < horizon))
    recent = {digest: at or now for digest, at in registration.item_digests if (at or now) >= horizon}
    rows = [
        {
            "source": source,
            "digest": digest,
            "updated_at": recent[digest],
            "url": registration.urls.get(digest),
            "image_id": registration.image_ids.get(digest),
        }
        for digest in sorted(recent)
    ]
    if not rows:
        return
    _forget_replaced(connection, rows)
    statement: Any = upsert(connection, recent_items)
    if connection.dialect.name == "postgresql":
        outcomes = unnested({column.name: column.type for column in recent_items.c}, rows)
        statement, rows = statement.from_select(list(outcomes.c.keys()), select(outcomes)), []
    told_last = statement.on_conflict_do_update(
        index_elements=[recent_items.c.source, recent_items.c.digest],
        set_={"url": statement.excluded.url},
        where=recent_items.c.url.is_distinct_from(statement.excluded.url),
    )
    connection.execute(told_last, rows)


def _forget_replaced(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Delete other items of the same image and the same update: when one of them comes again, it is a correction.

    Items of other updates stay: an API that lists every change repeats them within the overlap.
    """
    known = [row for row in rows if row["image_id"] is not None]
    for start in range(0, len(known), _DIGESTS_A_QUERY):
        part = known[start : start + _DIGESTS_A_QUERY]
        images = recent_items.c.image_id.in_([row["image_id"] for row in part])
        here = [recent_items.c.source == part[0]["source"], images]
        found = connection.execute(
            select(recent_items.c.digest, recent_items.c.image_id, recent_items.c.updated_at).where(*here)
        )
        updates = {(row["image_id"], row["updated_at"]) for row in part}
        landed = {row["digest"] for row in rows}
        replaced = [
            row.digest for row in found if (row.image_id, row.updated_at) in updates and row.digest not in landed
        ]
        if replaced:
            connection.execute(
                delete(recent_items).where(
                    recent_items.c.source == part[0]["source"], recent_items.c.digest.in_(replaced)
                )
            )

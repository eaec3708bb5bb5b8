"""The items that registrations landed within the overlap window, so that a poll knows what it has seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, MetaData, Table, delete, exists, insert, literal, select, update

from cropline.state.bulk import one_of
from cropline.state.database import Database
from cropline.state.model import Registration
from cropline.state.tables import AnyText, UtcTime, recent_items

if TYPE_CHECKING:
    import pyarrow as pa

_DIGESTS_A_QUERY = 1_000

_landed = Table(
    "landed_items",
    MetaData(),
    Column("digest", AnyText),
    Column("updated_at", UtcTime),
    Column("url", AnyText),
    Column("image_id", AnyText),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)


def unseen(database: Database, source: str, digests: Sequence[str]) -> set[str]:
    """Return the digests that no registration of this source has recorded within the overlap window."""
    wanted = set(digests)
    ordered = sorted(wanted)
    with database.reading() as connection:
        for start in range(0, len(ordered), _DIGESTS_A_QUERY):
            part = ordered[start : start + _DIGESTS_A_QUERY]
            found = select(recent_items.c.digest).where(
                recent_items.c.source == source, one_of(connection, recent_items.c.digest, part)
            )
            wanted.difference_update(connection.execute(found).scalars())
    return wanted


def remember_items(connection: Connection, registration: Registration, now: datetime) -> None:
    """Record the items of a registration; forget those that are older than the overlap window."""
    source, horizon = registration.source, registration.forget_digests_before
    connection.execute(delete(recent_items).where(recent_items.c.source == source, recent_items.c.updated_at < horizon))
    recent = {digest: at or now for digest, at in registration.item_digests if (at or now) >= horizon}
    if not recent:
        return
    from cropline.state.rows import stage, storable

    _landed.create(connection, checkfirst=False)
    stage(connection, _landed, [storable(connection, _table(registration, recent))])
    if registration.image_ids:
        _forget_replaced(connection, source, recent)
    _keep(connection, source, len(recent))
    _landed.drop(connection)


def _keep(connection: Connection, source: str, landed: int) -> None:
    """Insert the new ones; give the others their last address.

    Two statements, because ON CONFLICT writes each new row twice. The lock of the source keeps others from inserting.
    """
    same = (recent_items.c.source == source, recent_items.c.digest == _landed.c.digest)
    # In the order of the key: its index is then read once.
    new = select(literal(source, AnyText), *_landed.c).where(~exists().where(*same)).order_by(_landed.c.digest)
    statement = insert(recent_items).from_select(["source", *_landed.c.keys()], new)
    inserted = connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount
    if inserted < landed:
        told = update(recent_items).where(*same, recent_items.c.url.is_distinct_from(_landed.c.url))
        connection.execute(told.values(url=_landed.c.url))


def _table(registration: Registration, recent: dict[str, datetime]) -> pa.Table:
    import pyarrow as pa

    text, time = pa.string(), pa.timestamp("us", tz="UTC")
    columns = {
        "digest": pa.array(recent, text),
        "updated_at": pa.array(recent.values(), time),
        "url": _told(registration.urls, recent),
        "image_id": _told(registration.image_ids, recent),
    }
    return pa.table(columns).sort_by("digest")


def _told(texts: Any, recent: dict[str, datetime]) -> pa.Array:
    import pyarrow as pa

    if not texts:
        return pa.nulls(len(recent), pa.string())
    return pa.array([texts.get(digest) for digest in recent], pa.string())


def _forget_replaced(connection: Connection, source: str, landed: Collection[str]) -> None:
    """Delete other items of the same image and the same update: when one of them comes again, it is a correction.

    Items of other updates stay: an API that lists every change repeats them within the overlap.
    """
    others = select(recent_items.c.digest).where(
        recent_items.c.source == source,
        recent_items.c.image_id == _landed.c.image_id,
        recent_items.c.updated_at == _landed.c.updated_at,
        recent_items.c.digest != _landed.c.digest,
    )
    replaced = sorted({digest for digest in connection.execute(others).scalars() if digest not in landed})
    for start in range(0, len(replaced), _DIGESTS_A_QUERY):
        part = replaced[start : start + _DIGESTS_A_QUERY]
        connection.execute(
            delete(recent_items).where(recent_items.c.source == source, one_of(connection, recent_items.c.digest, part))
        )

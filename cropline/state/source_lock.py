"""The lock of a source: registrations, erasures and moves out of the table run one by one."""

from __future__ import annotations

from sqlalchemy import Connection

from cropline.state.tables import sources
from cropline.state.upsert import upsert


def block_registrations(connection: Connection, source: str) -> None:
    """Lock the source's row until the transaction ends, as a registration does before it merges."""
    row = upsert(connection, sources).values(source=source)
    connection.execute(row.on_conflict_do_update(index_elements=[sources.c.source], set_={"cursor": sources.c.cursor}))

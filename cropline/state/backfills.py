"""When a backfill of a selection began, and whether it has ended.

A backfill that was killed or cancelled continues: work items that ended after it began are not done again.
"""

from __future__ import annotations

from sqlalchemy import null, select, update

from cropline.state.database import Database
from cropline.state.model import BackfillStart
from cropline.state.tables import backfills
from cropline.state.upsert import upsert


def begin(database: Database, backfill_id: str, selection: str, *, restart: bool) -> BackfillStart:
    """Continue the unfinished backfill of this id, or begin it."""
    with database.atomic() as connection:
        now = database.now(connection)
        added = upsert(connection, backfills).values(
            backfill_id=backfill_id, selection=selection, began_at=now, ended_at=None
        )
        connection.execute(added.on_conflict_do_nothing())
        over = [] if restart else [backfills.c.ended_at.is_not(None)]
        connection.execute(
            update(backfills).where(backfills.c.backfill_id == backfill_id, *over).values(began_at=now, ended_at=null())
        )
        began = connection.execute(select(backfills.c.began_at).where(backfills.c.backfill_id == backfill_id)).scalar()
        return BackfillStart(backfill_id, began or now, resumed=began != now)


def end(database: Database, backfill_id: str) -> None:
    """End the backfill. The next one of this selection begins again."""
    with database.atomic() as connection:
        connection.execute(
            update(backfills)
            .where(backfills.c.backfill_id == backfill_id, backfills.c.ended_at.is_(None))
            .values(ended_at=database.now(connection))
        )


def find(database: Database, backfill_id: str) -> BackfillStart | None:
    """Return the unfinished backfill of this id, if any. Changes nothing."""
    query = select(backfills.c.began_at).where(backfills.c.backfill_id == backfill_id, backfills.c.ended_at.is_(None))
    with database.reading() as connection:
        began = connection.execute(query).scalar()
    return BackfillStart(backfill_id, began, resumed=True) if began is not None else None

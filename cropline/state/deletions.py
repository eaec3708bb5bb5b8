"""Images that their source deleted and whose crops are kept, and which images the state knows at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select

from cropline.state.database import Database
from cropline.state.moved_out import find
from cropline.state.tables import deleted_images, images
from cropline.state.upsert import upsert

_IDS_A_QUERY = 1_000


def mark(database: Database, source: str, image_ids: Sequence[str]) -> int:
    """Mark images as deleted; return how many were not marked before."""
    wanted, new = sorted(set(image_ids)), 0
    with database.atomic() as connection:
        now = database.now(connection)
        for start in range(0, len(wanted), _IDS_A_QUERY):
            rows = [
                {"source": source, "image_id": name, "deleted_at": now} for name in wanted[start : start + _IDS_A_QUERY]
            ]
            query = select(deleted_images.c.image_id).where(
                deleted_images.c.source == source, deleted_images.c.image_id.in_([row["image_id"] for row in rows])
            )
            known = set(connection.execute(query).scalars())
            rows = [row for row in rows if row["image_id"] not in known]
            if rows:
                connection.execute(upsert(connection, deleted_images).on_conflict_do_nothing(), rows)
            new += len(rows)
    return new


def unmark(database: Database, source: str, image_ids: Sequence[str]) -> None:
    """Remove the mark of images that their source announces again."""
    with database.atomic() as connection:
        for start in range(0, len(image_ids), _IDS_A_QUERY):
            part = deleted_images.c.image_id.in_(image_ids[start : start + _IDS_A_QUERY])
            connection.execute(delete(deleted_images).where(deleted_images.c.source == source, part))


def marked_at(database: Database, source: str, image_id: str) -> datetime | None:
    """Return when a poll read that the image was deleted; None when it was not."""
    with database.reading() as connection:
        query = select(deleted_images.c.deleted_at).where(
            deleted_images.c.source == source, deleted_images.c.image_id == image_id
        )
        return connection.execute(query).scalar()


def any_marked(database: Database, source: str) -> bool:
    """Return whether any image of the source is marked."""
    with database.reading() as connection:
        query = select(deleted_images.c.image_id).where(deleted_images.c.source == source).limit(1)
        return connection.execute(query).scalar() is not None


def known(database: Database, source: str, image_ids: Sequence[str]) -> set[str]:
    """Return those of the images that have work items, or had until they moved out."""
    found = set(find(database, source, image_ids).found)
    with database.reading() as connection:
        for start in range(0, len(image_ids), _IDS_A_QUERY):
            part = images.c.image_id.in_(image_ids[start : start + _IDS_A_QUERY])
            found.update(connection.execute(select(images.c.image_id).where(images.c.source == source, part)).scalars())
    return found

"""The files of a source that were read, by their versions: the next poll reads the others."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.sql import bindparam

from cropline.state.database import Database
from cropline.state.tables import read_files, sources
from cropline.state.upsert import upsert

_NAMES_A_QUERY = 1_000


def unread(database: Database, source: str, files: Mapping[str, str]) -> set[str]:
    """Return the names of those files (name -> version) that were not read in this version."""
    names, wanted = sorted(files), set(files)
    with database.reading() as connection:
        for start in range(0, len(names), _NAMES_A_QUERY):
            part = names[start : start + _NAMES_A_QUERY]
            query = select(read_files.c.name, read_files.c.version)
            found = connection.execute(query.where(read_files.c.source == source, read_files.c.name.in_(part)))
            wanted.difference_update(row.name for row in found if row.version == files[row.name])
    return wanted


def remember(database: Database, source: str, files: Mapping[str, str], list_after: str | None = None) -> None:
    """Record files as read. ``list_after``: files up to this name are never listed again, so they are removed."""
    with database.atomic() as connection:
        if files:
            statement = upsert(connection, read_files).values(
                source=source, name=bindparam("name_"), version=bindparam("version_"), read_at=database.now(connection)
            )
            key = [read_files.c.source, read_files.c.name]
            replaced = {"version": statement.excluded.version, "read_at": statement.excluded.read_at}
            rows = [{"name_": name, "version_": version} for name, version in sorted(files.items())]
            connection.execute(statement.on_conflict_do_update(index_elements=key, set_=replaced), rows)
        if list_after is not None:
            moved = upsert(connection, sources).values(source=source, list_after=list_after)
            connection.execute(
                moved.on_conflict_do_update(index_elements=[sources.c.source], set_={"list_after": list_after})
            )
            connection.execute(delete(read_files).where(read_files.c.source == source, read_files.c.name <= list_after))


def list_after(database: Database, source: str) -> str | None:
    """Return the name up to which all files were read."""
    with database.reading() as connection:
        return connection.execute(select(sources.c.list_after).where(sources.c.source == source)).scalar()

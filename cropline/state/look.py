"""Look at a state database without changing it: no file is created, no schema is migrated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import make_url

from cropline.config.state import StateSettings
from cropline.core.errors import SchemaTooNew
from cropline.state import binding
from cropline.state.database import Database
from cropline.state.migrations import MIGRATIONS, version_of


def look(settings: StateSettings, storage: str, sources: Mapping[str, str | None]) -> str:
    """Return what the database is, in a few words.

    ``storage``: StoreSpec.identity. ``sources``: the address of each source. Raise StateError when the database cannot be
    used, or belongs to another storage or API.
    """
    url = settings.url.get_secret_value()
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        return f"SQLite, {parsed.database}: does not exist yet; the first run creates it"
    database = Database(url)
    try:
        with database.reading() as connection:
            version = version_of(connection)
        name = "SQLite" if database.dialect == "sqlite" else "PostgreSQL"
        if version > len(MIGRATIONS):
            raise SchemaTooNew(f"the state database has schema {version} of a newer cropline")
        if version < len(MIGRATIONS):
            now = f"schema {version}" if version else "empty"
            return f"{name}, {now}; the next run brings it to schema {len(MIGRATIONS)}"
        for source, address in sources.items():
            binding.check(database, storage, source, address)
        return f"{name}, schema {version}"
    finally:
        database.close()

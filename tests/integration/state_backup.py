"""State databases that are backed up, lost and restored as in practice: SQLite's file copy, and pg_dump."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote

from tests.contract.state.servers import Postgres


class SqliteState:
    """A database in a file."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._path = Path(unquote(url.removeprefix("sqlite:///")))

    def backup(self) -> Path:
        copy = self._path.with_suffix(".backup")
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(self._path)) as here, closing(sqlite3.connect(copy)) as there:
            here.backup(there)
        return copy

    def lose(self) -> None:
        for path in self._path.parent.glob(f"{self._path.name}*"):
            path.unlink()

    def restore(self, backup: Path) -> None:
        self.lose()
        self._path.write_bytes(backup.read_bytes())


class PostgresState:
    """A schema of a server."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self._server, self._folder = server, folder
        self.url = server.fresh()
        self._schema = self.url.rsplit("%3D", 1)[1]

    def backup(self) -> Path:
        copy = self._folder / "state.sql"
        copy.write_text(self._server.dump(self._schema))
        return copy

    def lose(self) -> None:
        self._server.execute(f"DROP SCHEMA {self._schema} CASCADE; CREATE SCHEMA {self._schema}")

    def restore(self, backup: Path) -> None:
        self._server.execute(f"DROP SCHEMA {self._schema} CASCADE")
        self._server.load(backup.read_text())


@contextmanager
def state_of_kind(database: str, folder: Path) -> Iterator[SqliteState | PostgresState]:
    """An empty state database."""
    if database == "sqlite":
        yield SqliteState(f"sqlite:///{folder / 'state.db'}")
        return
    server = Postgres()
    try:
        yield PostgresState(server, folder)
    finally:
        server.close()

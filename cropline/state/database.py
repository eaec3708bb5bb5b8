"""The connection to the state database: opening, transactions, the clock, and errors as one clear line.

Every change of the state goes through ``Database.atomic``.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Select, create_engine, event, func, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from cropline.core.errors import StateError

Clock = Callable[[], datetime]

_BUSY_S = 60  # how long a writer waits for another on SQLite; transactions take milliseconds
_BUSY_LOOK_S = 0.01  # between two tries to switch a database to WAL
# Keepalives and the user timeout detect a server that vanished. Values in the URL win.
_POSTGRES_CONNECT: dict[str, str | int] = {
    "connect_timeout": 10,
    "application_name": "cropline",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_WORK_MEM = "64MB"  # a registration of 100,000 photos
_POSTGRES_SESSION = (
    # A process that stopped in the middle of a transaction must not hold its locks for ever.
    "SET idle_in_transaction_session_timeout = '60s'",
    "SET lock_timeout = '120s'",
    # Statements are short or read a table once: JIT compilation costs more than it saves.
    "SET jit = off",
)


class Database:
    """An engine and its rules. Threads may share it; each process opens its own."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        """Check the URL without opening a connection. Raise StateError when its kind is unknown."""
        parsed = _parse(url)
        self._clock = clock
        self._shown = parsed.render_as_string(hide_password=True)
        self._secret = parsed.password
        self.engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgres(parsed)
        self.dialect = self.engine.dialect.name
        self._writer = self.engine.execution_options(cropline_begin="BEGIN IMMEDIATE")

    @contextmanager
    def atomic(self) -> Iterator[Connection]:
        """Open one writing transaction: it commits when the block ends and rolls back when the block raises.

        Raise StateError for any error of the database. When the connection broke during the commit, the change may have
        happened: every change of this package can be repeated.
        """
        with self._translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open one read-only transaction. It blocks no other."""
        with self._translated(), self.engine.begin() as connection:
            yield connection

    def now(self, connection: Connection) -> datetime:
        """Return the time that decides leases and retries: PostgreSQL's own, since the clocks of hosts differ."""
        if self._clock is not None:
            return self._clock()
        if self.dialect == "postgresql":
            moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
            return moment.astimezone(UTC)
        return datetime.now(UTC)

    def close(self) -> None:
        """Close the pooled connections. The object stays usable and opens new ones."""
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, self.engine.dialect.loaded_dbapi.Error) as error:
            raise StateError(f"cannot use the state database {self._shown}: {self._explain(error)}") from error

    def _explain(self, error: BaseException) -> str:
        # Only the first line: other lines may quote rows. Scrubbed in case the driver prints the password.
        cause = getattr(error, "orig", None) or error
        line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        return line.replace(str(self._secret), "***") if self._secret else line


def plan_by_index(connection: Connection, *, sort: bool = True) -> None:
    """Make the planner use indexes for the rest of the transaction; ``sort`` off also reads in their order.

    Statistics lag behind a burst. The planner then read all pending rows for every row: a claim of 2,000
    images took 29 s instead of 0.1 s.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_by_index(sort))


@cache  # building a statement takes as long as executing it
def _by_index(sort: bool) -> Select[Any]:
    off = ["seqscan", "bitmapscan", "hashjoin", "mergejoin", *([] if sort else ["sort"])]
    return select(*(func.set_config(f"enable_{kind}", "off", True) for kind in off))


def keep_in_memory(connection: Connection) -> None:
    """Let sorts and the rows that triggers read stay in memory for the rest of the transaction, unless they are very many."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.set_config("work_mem", _WORK_MEM, True)))


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise StateError(
            "the state URL cannot be read; it looks like sqlite:///path or postgresql+psycopg://..."
        ) from None
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise StateError(f"the state URL starts with {parsed.drivername}; use sqlite or postgresql+psycopg")
    return parsed


def _sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:") or "mode=memory" in str(url):
        raise StateError("the state needs a file that outlives the process: sqlite:///path")
    try:
        if not str(url.database).startswith("file:"):  # SQLite's own spelling of a path, with options
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot create the folder of {url.database}: {error.strerror}") from error
    try:
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_S})
    except ValueError as error:
        raise StateError(f"cannot use the state database {url}: an option of its URL is invalid: {error}") from None
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin deferred transactions by its own rules. _begin_sqlite begins them instead.
    connection.isolation_level = None
    _write_ahead(connection)
    # A reported commit survives a power failure.
    connection.execute("PRAGMA synchronous = FULL")


def _write_ahead(connection: sqlite3.Connection) -> None:
    # A database switches to WAL once. SQLite waits for no other connection there: it answers "database is locked" at
    # once when another one writes or switches too, as when several processes open a new database.
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        else:
            return
        time.sleep(_BUSY_LOOK_S)


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once. A transaction that reads first and writes later can fail with "database
    # is locked" without waiting, since waiting could not help it.
    connection.exec_driver_sql(connection.get_execution_options().get("cropline_begin", "BEGIN"))


def _postgres(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        connect_args={name: value for name, value in _POSTGRES_CONNECT.items() if name not in url.query},
    )
    event.listen(engine, "connect", _prepare_postgres)
    return engine


def _prepare_postgres(connection: Any, _record: object) -> None:
    connection.autocommit = True
    for statement in _POSTGRES_SESSION:
        connection.execute(statement)
    connection.autocommit = False

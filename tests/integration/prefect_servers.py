"""Prefect servers that start at once: forks that have imported Prefect, on a database that is migrated already.

The imports and the migrations take 10 of the 12 CPU seconds of a start. ``cropline up`` and the demo start a server
as users do, in tests/e2e/test_up.py and test_wheel.py.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import requests
from prefect.context import _temporary_global_settings_context, get_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings

from tests.integration.fork_server import ForkedRun, ForkServer
from tests.ports import free_port

_PATIENCE_S = 280
_MIGRATE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""
# As Prefect's own test harness starts it, without the UI. Docket looks for background tasks once a second instead of
# four times: no test of a flow waits for one.
_SERVE = """
from datetime import timedelta
from functools import partial
import uvicorn
from prefect.server.api import background_workers, server
often = timedelta(seconds=1)
background_workers.Worker = partial(
    background_workers.Worker, minimum_check_interval=often, scheduling_resolution=often
)
app = server.create_app(ephemeral=True, final=True)
uvicorn.run(app, host="127.0.0.1", port={port}, log_level="error", lifespan="on")
"""
# What no test of a flow needs.
LESS = {
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_API_DATABASE_MIGRATE_ON_START": "false",
    # No flow uses a block, and the registration of all kinds of blocks imports all of Prefect's integrations.
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    # The server keeps the events of task runs and makes no rows of them: that took half of its time.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
}


def new_database(forks: ForkServer, folder: Path) -> Path:
    """Return the database of a new server, to be copied. Test processes with the same ``folder`` make it once."""
    made = folder / "prefect-new.db"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            migrated = folder / "prefect-migrated.db"
            run = forks.start(_MIGRATE, os.environ | _at(migrated))
            assert run.wait(_PATIENCE_S) == 0, run.stderr
            # Copies what is still in the write-ahead log, too.
            whole = made.with_suffix(".part")
            with closing(sqlite3.connect(migrated)) as source, closing(sqlite3.connect(whole)) as target:
                source.backup(target)
            whole.rename(made)
    return made


def _at(database: Path) -> dict[str, str]:
    return {PREFECT_SERVER_DATABASE_CONNECTION_URL.name: f"sqlite+aiosqlite:///{database}"}


@contextmanager
def served(forks: ForkServer, new: Path, folder: Path) -> Iterator[None]:
    """Run a server for this process's flows during the block.

    new: a database as new_database() returns it. folder: where the server keeps its own copy of it.
    """
    database = folder / "prefect.db"
    shutil.copyfile(new, database)
    port = free_port()
    run = forks.start(_SERVE.format(port=port), os.environ | LESS | _at(database))
    url = f"http://127.0.0.1:{port}/api"
    try:
        _until_it_answers(run, url)
        with (
            temporary_settings(
                {PREFECT_API_URL: url, PREFECT_SERVER_DATABASE_CONNECTION_URL: _at(database).popitem()[1]}
            ),
            # Threads that began before this block see the same settings.
            _temporary_global_settings_context(get_settings_context()),
        ):
            yield
            # Send waiting logs and events before the server ends.
            APILogWorker.drain_all()
            EventsWorker.drain_all()
    finally:
        run.send_signal(signal.SIGKILL, group=True)


def _until_it_answers(run: ForkedRun, url: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < deadline:
            try:
                if session.get(f"{url}/health", timeout=5).ok:
                    return
            except requests.RequestException:
                assert run.poll() is None, run.stderr
            time.sleep(0.1)
    raise AssertionError(f"Prefect's server did not answer within {_PATIENCE_S} s: {run.stderr}")

"""A scrape of the exporter over a large state database, on SQLite and on a real PostgreSQL.

    python -m benchmarks.metrics                   10,000,000 work items; writing them to SQLite takes about ten minutes
    ROWS=200000 python -m benchmarks.metrics       fewer

The state has 3 % pending, 1 % failed and 1 % dead items, 20,000 batches of which a day's are in the window, and 100,000
lineage events that wait for a collector. Rows are written by SQL; the counts that triggers keep are written with them.

scrape_ms_sqlite, scrape_ms_postgresql           the median of 20 scrapes over HTTP
scrape_max_ms_sqlite, scrape_max_ms_postgresql   the slowest
scrape_cpu_ms_sqlite, scrape_cpu_ms_postgresql   processor time of a scrape in this process, whatever else the machine does
slow_s_sqlite, slow_s_postgresql                 reading the slow figures, which no scrape waits for
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.request
from datetime import timedelta
from pathlib import Path

import psycopg

from cropline.config.settings import Settings, load_settings
from cropline.core.screen import Screen
from cropline.metrics.figures import Figures
from cropline.metrics.server import serving
from cropline.state import State
from tests.contract.state.servers import Postgres

ROWS = int(os.environ.get("ROWS", 10_000_000))
BATCHES, WAITING, SCRAPES = 20_000, 100_000, 20
RESULT = Path(__file__).parent / "results" / "metrics.json"

_STATE = "CASE n % 100 WHEN 0 THEN 'failed' WHEN 1 THEN 'dead' WHEN 2 THEN 'pending' WHEN 3 THEN 'pending' WHEN 4 THEN 'pending' ELSE 'done' END"
_REASON = "CASE n % 100 WHEN 0 THEN 'reason_' || n / 100 % 20 WHEN 1 THEN 'reason_' || n / 100 % 20 END"
_IMAGES = (
    "INSERT INTO images (source, image_id, profile, state, since, reason, attempts, profile_hash, version, fingerprint, manifest, "
    "manifest_row, boxes, first_seen, retry_at, captured_at, updated_at, batch_id) SELECT 'cams-' || n % 5, {key}, 'default', {state}, {at}, "
    "{reason}, 0, 'p', 'v', {key}, 'manifests/' || n / 5000, n % 5000, 37, {at}, CASE n % 100 WHEN 0 THEN {at} END, {at}, {at}, 'b-' || n / 500 FROM {numbers}"
)
_BATCHES = (
    "INSERT INTO batches (batch_id, source, state, attempt, owner, created_at, lease_until, committed_at, images, works, boxes, "
    "written, failed, skipped, catalogue_version) SELECT 'b-' || n, 'cams-' || n % 5, 'committed', 1, 'bench', {at}, {at}, {at}, "
    "500, 500, 18500, 18500, 0, 0, n FROM {numbers}"
)
_EVENTS = (
    "INSERT INTO outbox (event_id, payload, enqueued_at, published_at, attempts) SELECT 'e-' || n, {payload}, {at}, "
    "CASE WHEN n > {waiting} THEN {at} END, 0 FROM {numbers}"
)
_TALLY = "INSERT INTO tallies (source, state, works) SELECT source, state, count(*) FROM images GROUP BY source, state"


def _statements(numbers: str, at: str, key: str, payload: str) -> list[str]:
    """``numbers`` and ``at``: SQL with {most}: rows n = 1 .. most, and the time so many minutes ago."""
    tables = ((_IMAGES, ROWS), (_BATCHES, BATCHES), (_EVENTS, 2 * WAITING))
    values = {"state": _STATE, "reason": _REASON, "key": key, "payload": payload, "waiting": WAITING}
    return [
        table.format(numbers=numbers.format(most=most), at=at.format(ago=f"{most} - n"), **values)
        for table, most in tables
    ]


def fill_sqlite(file: Path) -> None:
    """Fill the state that the product made there."""
    numbers = "(WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {most}) SELECT n FROM g)"
    at = "strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now', '-' || ({ago}) || ' minutes')"
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA synchronous = OFF")
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        for statement in _statements(numbers, at, "printf('%032x', n * 2654435761)", "hex(zeroblob(1000))"):
            database.execute(statement)
        database.execute(_TALLY)
        for _, sql in triggers:
            database.execute(sql)
    database.close()


def fill_postgresql(url: str, schema: str) -> None:
    """Fill the state that the product made there."""
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(f"SET search_path = {schema}")
        database.execute("ALTER TABLE images DISABLE TRIGGER USER")
        numbers, at = "generate_series(1, {most}) AS n", "now() - ({ago}) * interval '1 minute'"
        for statement in _statements(numbers, at, "md5(n::text)", "repeat('x', 2000)"):
            database.execute(statement)
        database.execute(_TALLY)
        database.execute("ALTER TABLE images ENABLE TRIGGER USER")
        database.execute("ANALYZE")


def scrape(settings: Settings) -> dict[str, float]:
    """Return the milliseconds of scrapes and the seconds of the slow figures."""
    screen = Screen()
    with serving(settings, "127.0.0.1", 0, timedelta(hours=1), lambda error: screen.print(str(error))) as port:
        times, busy = [], 0.0
        for _ in range(SCRAPES + 1):
            started, spent = time.monotonic(), time.process_time()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
                text = answer.read().decode()
            times.append(1000 * (time.monotonic() - started))
            busy += 1000 * (time.process_time() - spent)
    if "cropline_up 1.0" not in text or f"cropline_lineage_events_waiting {float(WAITING)}" not in text:
        raise SystemExit("the exporter could not read the state")
    with State.open(settings.state) as state:
        started = time.monotonic()
        Figures(state, settings.storage.spec, window=timedelta(hours=1), on_error=print).refresh()
        slow = time.monotonic() - started
    return {
        "scrape_ms": statistics.median(times[1:]),
        "scrape_max_ms": max(times[1:]),
        "scrape_cpu_ms": busy / (SCRAPES + 1),
        "slow_s": slow,
    }


def main() -> None:
    found: dict[str, float] = {"works": ROWS}
    wanted = sys.argv[1:] or ["sqlite", "postgresql"]
    with tempfile.TemporaryDirectory(prefix="cropline-benchmark-") as scratch:
        for kind in wanted:
            started, folder = time.monotonic(), Path(scratch)
            server = Postgres("shared_buffers = '1GB'", "max_wal_size = '1GB'") if kind == "postgresql" else None
            url = server.fresh() if server else f"sqlite:///{folder}/state.db"
            settings = load_settings(storage={"url": folder.as_uri()}, state={"url": url})
            State.open(settings.state).close()
            if server:
                fill_postgresql(server.url.replace("+psycopg", ""), url.rpartition("%3D")[2])
            else:
                fill_sqlite(folder / "state.db")
            print(f"{kind}: {ROWS:,} work items in {time.monotonic() - started:.0f} s", flush=True)
            for name, value in scrape(settings).items():
                found[f"{name}_{kind}"] = round(value, 1)
                print(f"{name + '_' + kind:>26} {value:,.1f}", flush=True)
            if server:
                server.close()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

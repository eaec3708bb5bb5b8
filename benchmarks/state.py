"""The state table at size, on a real PostgreSQL: registering against the same statement by hand, claiming, idling.

    python -m benchmarks.state             1,000,000 candidates against 10,000,000 work items: ten minutes, 15 GB
    FAST=1 python -m benchmarks.state      20,000 against 200,000

register_vs_sql  seconds of State.register over those of COPY and one INSERT .. ON CONFLICT through psycopg, half of the
                 candidates known. State.register also reads Parquet, checks, and keeps digests of the last 20 minutes'
                 items and the tallies. By hand none of this is done, and the CSV is ready; the faster run counts.
claim_s          a claim of 20,000 images at that size, the median of five in a row; claim_max_s the slowest
commit_s         the commit of the last of them
peak_rss_mb      of the process that registers, reading its candidates from Parquet
idle_growth      a poll that finds nothing, report included, at the full size over the same at a tenth of it
prune_s, ...     ROWS done photos leave the table: see state_prune.py; WORKS=0 measures this alone. ROWS=50000000 needs 40 GB
                 of disk (27 GB for the table and its indexes, 8 GB of journal, 5 GB for what remembers the photos)

The server has a quarter of a 24 GB machine as shared_buffers and does not wait for the disk (fsync off).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from cropline.config.state import StateSettings
from cropline.state import CANDIDATES, Batch, Counts, Outcome, Registration, State
from tests.contract.state.servers import Postgres

FAST = bool(os.environ.get("FAST"))
WORKS = int(os.environ.get("WORKS", 200_000 if FAST else 10_000_000))
CANDIDATES_IN = WORKS // 10
CLAIM = min(20_000, CANDIDATES_IN // 10)
RESULT = Path(__file__).parent / "results" / "state.json"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NEW_MANIFEST = "manifests/cams/2026/11/20261122T120000Z-new.parquet"
HASH = hashlib.sha256(b"profile").hexdigest()
RECIPE = '{"format":"jpeg","quality":90}'
SEED = 20261122

_FILL = f"""
    INSERT INTO images (source, image_id, profile, state, since, attempts, profile_hash, version, fingerprint, manifest,
        manifest_row, boxes, bytes, captured_at, updated_at, store_id, camera_id, first_seen, batch_id, committed_batch)
    SELECT 'cams', md5(n::text), 'default', 'done', at, 0, '{HASH}', md5('v' || n), encode(sha256(n::text::bytea), 'hex'),
        'manifests/cams/2026/11/20261101T000000Z-' || n / 5000 || '.parquet', n %% 5000, 37, 2600000, at, at,
        'store-' || n %% 900, 'camera-' || n %% 4000, at, '20261101-000000-' || n / 500, '20261101-000000-' || n / 500
    FROM (SELECT n, timestamptz '2026-11-01' + n * interval '100 milliseconds' AS at FROM generate_series(%s::int, %s::int) AS n) AS g
"""
_AT = "timestamptz '2026-11-01' + n * interval '50 seconds'"
_BATCHES = f"""
    INSERT INTO batches (batch_id, source, state, attempt, owner, created_at, lease_until, committed_at, images, works,
        boxes, written, failed, skipped, catalogue_version)
    SELECT '20261101-000000-' || n, 'cams', 'committed', 1, 'benchmark', {_AT}, {_AT}, {_AT}, 500, 500, 18500, 18500, 0, 0, n
    FROM generate_series(%s::int, %s::int) AS n
"""
_MANIFESTS = f"""
    INSERT INTO manifests (manifest, source, registered_at, new, changed, known, quarantined)
    SELECT 'manifests/cams/2026/11/20261101T000000Z-' || n || '.parquet', 'cams', {_AT}, 5000, 0, 0, 0
    FROM generate_series(%s::int, %s::int) AS n
"""
# A START and an end event for each batch, published.
_EVENTS = f"""
    INSERT INTO outbox (event_id, payload, enqueued_at, published_at, attempts)
    SELECT md5('event' || n), repeat('x', 2000), {_AT}, {_AT}, 0 FROM generate_series(%s::int, %s::int) AS n
"""
_WANTED = ", ".join(CANDIDATES.names)
_CHANGES = ", ".join(
    f"{name} = excluded.{name}" for name in CANDIDATES.names if name not in ("source", "image_id", "profile")
)
_BY_HAND = f"""
    INSERT INTO images ({_WANTED}, since, first_seen, attempts) SELECT {_WANTED}, now(), now(), 0 FROM staged
    ON CONFLICT (source, image_id, profile) DO UPDATE SET {_CHANGES}, since = now(), attempts = 0, retry_at = NULL
    WHERE images.fingerprint <> excluded.fingerprint
"""


def candidates(works: int, rows: int) -> Iterator[pa.Table]:
    """Yield ``rows`` candidates: every other one of a random existing work item, the others new."""
    rng = random.Random(SEED)
    known = rng.sample(range(works), rows // 2)
    numbers = [number for pair in zip(known, range(works, works + rows // 2), strict=True) for number in pair]
    for start in range(0, len(numbers), 50_000):
        yield candidate_rows(numbers[start : start + 50_000], start)


def candidate_rows(numbers: list[int], first_row: int, manifest: str = NEW_MANIFEST) -> pa.Table:
    """Return CANDIDATES for the images of these numbers, one every 100 ms."""
    texts = [str(n).encode() for n in numbers]
    at = [NOON + timedelta(milliseconds=100 * n) for n in numbers]
    count = len(numbers)
    columns: dict[str, Any] = {
        "source": ["cams"] * count,
        "image_id": [hashlib.md5(t).hexdigest() for t in texts],
        "profile": ["default"] * count,
        "profile_hash": [HASH] * count,
        "version": [hashlib.md5(b"v" + t).hexdigest() for t in texts],
        "fingerprint": [hashlib.sha256(t).hexdigest() for t in texts],
        "manifest": [manifest] * count,
        "manifest_row": list(range(first_row, first_row + count)),
        "boxes": [37] * count,
        "bytes": [2_600_000] * count,
        "captured_at": at,
        "updated_at": at,
        "store_id": [f"store-{n % 900}" for n in numbers],
        "camera_id": [f"camera-{n % 4000}" for n in numbers],
        "state": ["pending"] * count,
        "reason": [None] * count,
        "metadata": [None] * count,
    }
    return pa.Table.from_pydict(columns, schema=CANDIDATES)


def open_state(url: str) -> State:
    """Open the state as a flow does."""
    return State.open(StateSettings.model_validate({"url": url}))


def register(url: str, path: str) -> None:
    """Register the Parquet file in a separate process. Print seconds, counts and peak memory."""
    with open_state(url) as state:
        start = time.perf_counter()
        file = pq.ParquetFile(path)
        rows = (pa.Table.from_batches([batch]) for batch in file.iter_batches(50_000))
        registered = state.register(
            Registration(
                source="cams",
                manifest="manifests/new",
                cursor=NOON.isoformat(),
                rows=rows,
                item_digests=[(f"{n:064x}", NOON + timedelta(milliseconds=100 * n)) for n in range(CANDIDATES_IN)],
                forget_digests_before=NOON + timedelta(milliseconds=100 * CANDIDATES_IN) - timedelta(minutes=20),
                profiles={"default": (HASH, RECIPE)},
            )
        )
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "new": registered.new, "known": registered.known, "peak_rss_mb": peak}))


def by_hand(url: str, path: Path) -> float:
    """Return the seconds of COPY and one statement on the same tables, without our triggers; rolled back afterwards."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("ALTER TABLE images DISABLE TRIGGER USER")
        start = time.perf_counter()
        connection.execute("CREATE TEMP TABLE staged (LIKE images)")
        connection.execute("ALTER TABLE staged ALTER since DROP NOT NULL, ALTER first_seen DROP NOT NULL")
        connection.execute("ALTER TABLE staged ALTER attempts DROP NOT NULL")
        with connection.cursor() as cursor, path.open("rb") as file:
            with cursor.copy(f"COPY staged ({_WANTED}) FROM STDIN (FORMAT csv)".encode()) as copy:
                while chunk := file.read(1 << 20):
                    copy.write(chunk)
            cursor.execute(_BY_HAND.encode())
            assert cursor.rowcount == CANDIDATES_IN // 2
        seconds = time.perf_counter() - start
        connection.rollback()
    vacuum(url)
    return seconds


def vacuum(url: str) -> None:
    """Vacuum as autovacuum would, and checkpoint, so that no run pays for the one before."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE, INDEX_CLEANUP ON) images")
        connection.execute("VACUUM ANALYZE batches, manifests, outbox")
        connection.execute("CHECKPOINT")


def fill(url: str, first: int, last: int) -> None:
    """Insert finished work items first..last-1, with their batches, manifests and events."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for start in range(first, last, 1_000_000):
            stop = min(start + 1_000_000, last)
            connection.execute(_FILL.encode(), (start, stop - 1))
            for statement, every in ((_BATCHES, 500), (_MANIFESTS, 5_000), (_EVENTS, 250)):
                connection.execute(statement.encode(), (start // every, stop // every - 1))
    vacuum(url)


def idle_poll(state: State) -> None:
    """Run a poll's queries of the state when the API has nothing new."""
    state.cursor("cams")
    state.unseen("cams", [f"{n:064}" for n in range(200)])
    assert state.claim(limit=500, owner="idle", source="cams") is None
    assert state.pending_events(100) == []
    state.report()


def seconds_of(act: Callable[[], object]) -> float:
    """Return how long the call takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def idle_seconds(*urls: str) -> list[float]:
    """Return the fastest idle poll of each database, in turns: other load only adds time."""
    with ExitStack() as stack:
        states = [stack.enter_context(open_state(url)) for url in urls]
        for state in states:
            idle_poll(state)
        turns = [[seconds_of(partial(idle_poll, state)) for state in states] for _ in range(100)]
    return [min(times) for times in zip(*turns, strict=True)]


def claims(url: str) -> tuple[list[float], float]:
    """Return (seconds of five claims, seconds of a commit)."""
    taken: list[float] = []
    with open_state(url) as state:
        for _ in range(5):
            start = time.perf_counter()
            batch = state.claim(limit=CLAIM, owner="benchmark", source="cams")
            taken.append(time.perf_counter() - start)
            assert batch is not None
            assert batch.images.num_rows == CLAIM
        return taken, seconds_of(lambda: _commit(state, batch))


def _commit(state: State, batch: Batch) -> None:
    told = [
        Outcome("cams", image["image_id"], work["profile"], work["fingerprint"], ok=True)
        for image in batch.images.to_pylist()
        for work in image["work"]
    ]
    state.commit(batch, told, counts=Counts(CLAIM, 37 * CLAIM, 37 * CLAIM, 0, 0), catalogue_version=1)


def measure(server: Postgres, folder: Path) -> dict[str, float]:
    """Run the whole measurement on an empty server."""
    url = server.fresh()
    open_state(url).close()
    parquet, text = folder / "candidates.parquet", folder / "candidates.csv"
    with pq.ParquetWriter(parquet, CANDIDATES) as writer, csv.CSVWriter(text, CANDIDATES, write_options=_CSV) as lines:
        for table in candidates(WORKS, CANDIDATES_IN):
            writer.write_table(table)
            lines.write_table(table)
    fill(url, 0, WORKS)
    small = server.fresh()
    open_state(small).close()
    fill(small, 0, WORKS // 10)
    idle_small, idle_full = idle_seconds(small, url)
    hands = [by_hand(url, text)]
    command = [sys.executable, "-m", "benchmarks.state", "register", url, str(parquet)]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert (ours["new"], ours["known"]) == (CANDIDATES_IN // 2, CANDIDATES_IN // 2)
    claimed, commit_s = claims(url)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DELETE FROM images WHERE manifest LIKE '%-new.parquet'")
    vacuum(url)
    hands.append(by_hand(url, text))
    return {
        "works": WORKS,
        "candidates": CANDIDATES_IN,
        "register_s": round(ours["seconds"], 2),
        "sql_s": round(min(hands), 2),
        "register_vs_sql": round(ours["seconds"] / min(hands), 3),
        "claim_s": round(statistics.median(claimed), 3),
        "claim_max_s": round(max(claimed), 3),
        "claim_images": CLAIM,
        "commit_s": round(commit_s, 3),
        "peak_rss_mb": round(ours["peak_rss_mb"]),
        "idle_s": round(idle_full, 4),
        "idle_growth": round(idle_full / idle_small, 3),
    }


_CSV = csv.WriteOptions(include_header=False, quoting_style="needed")


def run() -> dict[str, float]:
    """Measure and write benchmarks/results/state.json."""
    server = Postgres(
        f"shared_buffers = '{256 if FAST else 6_144}MB'", "max_wal_size = '8GB'", "maintenance_work_mem = '512MB'"
    )
    server.stop()
    server.start()
    from benchmarks import state_prune

    try:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(server, Path(folder)) if WORKS else {}
            results |= state_prune.measure(server, Path(folder))
    finally:
        server.close()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n")
    return results


def main() -> None:
    """Run as a command, or as the process that registers."""
    if sys.argv[1:2] == ["register"]:
        register(*sys.argv[2:4])
        return
    for name, value in run().items():
        print(f"{name:16} {value}")


if __name__ == "__main__":
    main()

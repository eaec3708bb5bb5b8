"""Photos that ended long ago leave the state table, at size, on a real PostgreSQL.

    python -m benchmarks.state_prune               ROWS=50,000,000 done photos: 40 GB of disk
    ROWS=1000000 python -m benchmarks.state_prune
    LEAVE=0.1 python -m benchmarks.state_prune     a tenth of the rows leave, instead of nine: an hour less

prune_s           seconds until these rows (prune_rows) have left, without the proof by the catalogue
prune_s_per_m     the same per million rows that left
prune_cpu_us      microseconds of CPU of a row, of this process (PostgreSQL's are beside it)
prune_rss_mb      peak memory of the process
longest_ms        the longest transaction: a registration of the source waits no longer
before_mb, left_mb   the table and its indexes before; the table of photos that left, after
dead_rows         rows that are dead in the table after a vacuum
refilled_growth   the table after as many new rows as left, over its size before: space is used again
whole_us          microseconds of a photo of 37 boxes with the proof, from a real catalogue of PROOF photos

`python -m benchmarks.state` runs it too. The catalogue is too small at that size to be made here (1.8 billion rows), so
the proof is measured apart.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pyarrow as pa

from benchmarks.control_path import BOXES, commit, crop_rows
from benchmarks.state import _FILL, FAST, HASH, RECIPE, candidate_rows, open_state
from cropline.catalogue import Catalogue
from cropline.core.keys import metadata_hash
from cropline.core.store_spec import StoreSpec
from cropline.maintenance import move_out_ended
from cropline.state import Batch, Registration, State
from tests.contract.state.servers import Postgres

ROWS = int(os.environ.get("ROWS", 200_000 if FAST else 50_000_000))
PROOF = int(os.environ.get("PROOF", 4_000))
LEAVE = float(os.environ.get("LEAVE", "0.9"))
_PART = 1_000_000


def measure(server: Postgres, folder: Path) -> dict[str, float]:
    """Return the module docstring's figures, measured on new databases of this server."""
    url = server.fresh()
    open_state(url).close()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        _fill(connection, 0, ROWS)
        before = _size(connection, "images")
        newest = connection.execute("SELECT max(since) FROM images").fetchone()
        oldest = connection.execute("SELECT min(since) FROM images").fetchone()
        assert newest is not None
        assert oldest is not None
        limit = oldest[0] + (newest[0] - oldest[0]) * LEAVE
        told = _prune(url, limit)
        connection.execute("VACUUM (ANALYZE) images")
        dead = connection.execute("SELECT pg_stat_get_dead_tuples('images'::regclass)").fetchone()
        left = _size(connection, "moved_out")
        _fill(connection, ROWS, ROWS + int(told["moved"]))
        after = _size(connection, "images")
    assert dead is not None
    return {
        "prune_rows": told["moved"],
        "prune_s": round(told["seconds"], 2),
        "prune_s_per_m": round(told["seconds"] / told["moved"] * 1e6, 2),
        "prune_cpu_us": round(1e6 * told["cpu"] / told["moved"], 1),
        "prune_rss_mb": round(told["peak_rss_mb"]),
        "longest_ms": round(1_000 * told["longest"]),
        "before_mb": round(before / 1e6),
        "left_mb": round(left / 1e6),
        "dead_rows": dead[0],
        "refilled_growth": round(after / before, 3),
        "whole_us": round(_whole_us(server.fresh(), folder), 1),
    }


def _fill(connection: psycopg.Connection[Any], first: int, last: int) -> None:
    """Insert done work items first..last-1. The key is made at the end: one by one takes ten times longer."""
    if first == 0:
        connection.execute("ALTER TABLE images DROP CONSTRAINT images_pkey")
    for start in range(first, last, _PART):
        connection.execute(_FILL.encode(), (start, min(start + _PART, last) - 1))
    if first == 0:
        connection.execute("ALTER TABLE images ADD PRIMARY KEY (source, image_id, profile)")
    connection.execute("VACUUM (ANALYZE) images")
    connection.execute("CHECKPOINT")


def _size(connection: psycopg.Connection[Any], table: str) -> int:
    row = connection.execute("SELECT pg_total_relation_size(%s::regclass)", (table,)).fetchone()
    assert row is not None
    return int(row[0])


def _prune(url: str, before: datetime) -> dict[str, float]:
    """Move out, in a separate process, what was done before a time."""
    import subprocess

    command = [sys.executable, "-m", "benchmarks.state_prune", "prune", url, before.isoformat()]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(told))


def prune(url: str, before: datetime) -> dict[str, float]:
    """Move out all photos that were done before a time, as maintenance does with those that the catalogue proves."""
    start, cpu, moved, longest = time.perf_counter(), time.process_time(), 0, 0.0
    with open_state(url) as state:
        for source, items in state.old_photos(before):
            for first in range(0, len(items), 1_000):
                began = time.perf_counter()
                moved += state.move_out(source, items[first : first + 1_000])
                longest = max(longest, time.perf_counter() - began)
    return {
        "moved": moved,
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "longest": longest,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _whole_us(url: str, folder: Path) -> float:
    """Return the microseconds of a photo of maintenance as it is: with the proof by a catalogue of PROOF photos."""
    spec = StoreSpec(folder.as_uri())
    settings: Any = SimpleNamespace(retention=SimpleNamespace(state_days=1), profiles={})
    with open_state(url) as state:
        _crop(state, Catalogue(spec))
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("UPDATE images SET since = since - interval '9 days'")
        start = time.perf_counter()
        told = move_out_ended(spec, state, settings, dry_run=False)
        seconds = time.perf_counter() - start
    assert [one.count for one in told] == [PROOF], "the catalogue proves every photo"
    return 1e6 * seconds / PROOF


def _crop(state: State, catalogue: Catalogue) -> None:
    """Register PROOF photos, and commit them as their crops would be."""
    rows = candidate_rows(list(range(PROOF)), 0)
    scores = [{"score": 0.5}] * BOXES
    hashes = [
        metadata_hash(store, camera, at, scores)
        for store, camera, at in zip(
            *(rows[n].to_pylist() for n in ("store_id", "camera_id", "captured_at")), strict=True
        )
    ]
    rows = rows.set_column(rows.schema.get_field_index("metadata"), "metadata", pa.array(hashes, pa.string()))
    state.register(
        Registration(
            "cams",
            "manifests/proof",
            None,
            rows,
            [],
            datetime.now(UTC) - timedelta(days=1),
            {"default": (HASH, RECIPE)},
        )
    )
    announced = {row["image_id"]: row for row in rows.to_pylist()}
    while (batch := state.claim(limit=1_000, owner="benchmark", source="cams")) is not None:
        catalogue.append(
            _rows(batch, announced),
            batch_id=batch.batch_id,
            attempt=1,
            flow_run="benchmark",
            committed_at=datetime.now(UTC),
        )
        commit(state, batch)


def _rows(batch: Batch, announced: dict[str, dict[str, Any]]) -> pa.Table:
    rows = crop_rows(batch)
    of = [announced[image_id] for image_id in rows["image_id"].to_pylist()]
    values: dict[str, list[Any]] = {
        name: [row[name] for row in of] for name in ("version", "fingerprint", "store_id", "camera_id")
    }
    values |= {"captured_at": [row["captured_at"].isoformat() for row in of], "score": [0.5] * len(of)}
    for name, column in values.items():
        field = rows.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array(column, field.type))
    return rows


def main() -> None:
    """Run as a command, or as the process that moves photos out."""
    if sys.argv[1:2] == ["prune"]:
        print(json.dumps(prune(sys.argv[2], datetime.fromisoformat(sys.argv[3]))))
        return
    server = Postgres("shared_buffers = '1GB'", "max_wal_size = '2GB'", "maintenance_work_mem = '512MB'")
    server.stop()
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(server, Path(folder))
    finally:
        server.close()
    for name, value in results.items():
        print(f"{name:16} {value}")


if __name__ == "__main__":
    main()

"""The control path without pictures: register, claim and commit ten million images, on a real PostgreSQL.

    python -m benchmarks.control_path                   10,000,000 images in ten rounds: twenty minutes, 15 GB of disk
    FAST=1 python -m benchmarks.control_path            200,000 in two
    AROUND="nice -n 15" python -m benchmarks.control_path   each round runs under this command, to share the machine

A round registers its images in manifests of 20,000, then claims and commits them in batches of 5,000 (``BATCH``),
as one run of a flow would. The table keeps the results of earlier rounds. Every 20th batch also appends its crop
rows, 37 per image, to a Delta catalogue.

images_per_s          register, claim and commit of all images, one after the other, by one process
concurrent_per_s      the same of the last images, up to 200,000, while another thread commits: a backfill with concurrency 2
register_us, claim_us, commit_us   microseconds per image; append_us: of the catalogue, from the appended batches
append_s              seconds of one batch's append
first_per_s, last_per_s       images_per_s of the first and the last round: the cost of a growing table
first_cpu_us, last_cpu_us     the same as CPU per image, client and PostgreSQL: for a machine with other load
client_share, database_share  CPU of this process and of PostgreSQL over the time of the three steps: the larger saturates first
peak_rss_mb           of the process that runs a round

The server has a quarter of a 24 GB machine as shared_buffers and does not wait for the disk (fsync off).
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from benchmarks.state import HASH, NOON, RECIPE, candidate_rows, open_state, vacuum
from cropline.catalogue import Catalogue
from cropline.core.schemas import CROPS
from cropline.core.store_spec import StoreSpec
from cropline.pipeline.outcomes import outcomes
from cropline.state import Batch, Counts, Event, Registration, State
from tests.contract.state.servers import Postgres

FAST = bool(os.environ.get("FAST"))
IMAGES = int(os.environ.get("IMAGES", 200_000 if FAST else 10_000_000))
ROUNDS = int(os.environ.get("ROUNDS", 2 if FAST else 10))
BATCH = int(os.environ.get("BATCH", 5_000))
MANIFEST = 20_000
APPENDED = 20  # one batch in this many
BOXES = 37
RESULT = Path(__file__).parent / "results" / "control_path.json"
STEPS = ("register", "claim", "commit")
NO_CROPS = CROPS.empty_table()


class Clock:
    """Seconds by step: wall time, and CPU of this process."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.cpu: Counter[str] = Counter()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the block's time."""
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] += time.perf_counter() - start
        self.cpu[name] += time.process_time() - cpu


def a_round(url: str, catalogue: Catalogue, first: int, count: int) -> dict[str, Any]:
    """Register images first..first+count-1, then claim and commit until none waits."""
    clock, appended = Clock(), 0
    database = database_cpu_s(url)
    with open_state(url) as state:
        for start in range(first, first + count, MANIFEST):
            register(state, clock, range(start, min(start + MANIFEST, first + count)))
        batches = 0
        while True:
            with clock.step("claim"):
                batch = state.claim(limit=BATCH, owner="benchmark", source="cams")
            if batch is None:
                break
            rows = crop_rows(batch) if batches % APPENDED == 0 else None
            if rows is not None:
                with clock.step("append"):
                    append(catalogue, batch, rows)
                appended += batch.images.num_rows
            with clock.step("commit"):
                commit(state, batch)
            batches += 1
        if state.report().images["done"] != first + count:
            raise RuntimeError("not every image is done")
    return {
        "seconds": dict(clock.seconds),
        "images": count,
        "appended": appended,
        "appends": -(-batches // APPENDED),
        "client": sum(clock.cpu[step] for step in STEPS),
        "database": database_cpu_s(url) - database,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def concurrent_per_s(url: str, first: int, count: int) -> float:
    """Return images per second when commits run beside registrations and claims, as in flows/batch_executor.py."""
    manifests = [range(start, min(start + MANIFEST, first + count)) for start in range(first, first + count, MANIFEST)]
    made = [registration(numbers) for numbers in manifests]
    held: deque[Future[None]] = deque()
    with open_state(url) as state, ThreadPoolExecutor(2) as threads:
        begin = time.perf_counter()
        for each in made:
            state.register(each)
            while (batch := state.claim(limit=BATCH, owner="benchmark", source="cams")) is not None:
                held.append(threads.submit(commit, state, batch))
                if len(held) == 2:
                    held.popleft().result()
        while held:
            held.popleft().result()
        seconds = time.perf_counter() - begin
        if state.report().images["done"] != first + count:
            raise RuntimeError("not every image is done")
    return count / seconds


def register(state: State, clock: Clock, numbers: range) -> None:
    """Register one manifest's images, all new."""
    made = registration(numbers)
    with clock.step("register"):
        registered = state.register(made)
    if registered.new != len(numbers):
        raise RuntimeError(f"{registered.new} of {len(numbers)} images were new")


def registration(numbers: range) -> Registration:
    """Return the registration of one manifest."""
    manifest = f"manifests/cams/2026-11-22/{numbers[0]:024d}.parquet"
    rows = candidate_rows(list(numbers), 0, manifest)
    at = [NOON + timedelta(milliseconds=100 * number) for number in numbers]
    return Registration(
        source="cams",
        manifest=manifest,
        cursor=at[-1].isoformat(),
        rows=rows,
        item_digests=[(f"{number:032x}", moment) for number, moment in zip(numbers, at, strict=True)],
        forget_digests_before=at[-1] - timedelta(minutes=20),
        profiles={"default": (HASH, RECIPE)},
    )


def commit(state: State, batch: Batch) -> None:
    """Commit a batch in which everything was written, as tasks/commit.py does."""
    told = outcomes(batch, NO_CROPS)
    images = batch.images.num_rows
    counts = Counts(images, BOXES * images, BOXES * images, 0, 0)
    events = [Event(f"{batch.batch_id}-{kind}", json.dumps({"facets": "x" * 4_000})) for kind in ("start", "complete")]
    state.commit(batch, told, counts=counts, catalogue_version=1, events=events)


def append(catalogue: Catalogue, batch: Batch, rows: pa.Table) -> None:
    """Append the batch's rows to the Delta table."""
    catalogue.append(
        rows, batch_id=batch.batch_id, attempt=batch.attempt, flow_run="benchmark", committed_at=datetime.now(UTC)
    )


def crop_rows(batch: Batch) -> pa.Table:
    """Return CROPS like a job's: ids that repeat between images, hashes that never do."""
    images = batch.images.num_rows
    rows = images * BOXES
    number = np.arange(rows)
    ids = pa.DictionaryArray.from_arrays(
        pa.array(number // BOXES, pa.int32()), batch.images["image_id"].combine_chunks()
    )
    manifests = pa.DictionaryArray.from_arrays(
        pa.array(number // BOXES, pa.int32()), batch.images["manifest"].combine_chunks()
    )
    values: dict[str, Any] = {
        "image_id": ids.cast(pa.string()),
        "manifest": manifests.cast(pa.string()),
        "manifest_row": np.repeat(batch.images["manifest_row"].to_numpy(), BOXES),
        "box_index": number % BOXES,
        "sha256": hexes(rows),
        "key": hexes(rows),
        "fingerprint": pa.array(np.repeat(hexes(images).to_numpy(zero_copy_only=False), BOXES)),
        "image_sha256": pa.array(np.repeat(hexes(images).to_numpy(zero_copy_only=False), BOXES)),
    }
    constants: dict[str, Any] = {"source": "cams", "profile": "default", "profile_hash": HASH, "status": "written"}
    rng = np.random.default_rng(int(number.size))
    for field in CROPS:
        if field.name in values:
            continue
        if field.name in constants:
            values[field.name] = pa.array([constants[field.name]] * rows)
        elif pa.types.is_floating(field.type):
            values[field.name] = rng.random(rows)
        elif pa.types.is_integer(field.type):
            values[field.name] = rng.integers(0, 4_000, rows)
        else:
            values[field.name] = pa.nulls(rows, field.type)
    return pa.Table.from_arrays([pa.array(values[name]) for name in CROPS.names], names=CROPS.names).cast(CROPS)


def hexes(count: int) -> pa.Array:
    """Return different texts of 64 hexadecimal digits."""
    digits = os.urandom(32 * count).hex().encode()
    offsets = pa.py_buffer(np.arange(0, 64 * (count + 1), 64, dtype=np.int32).tobytes())
    return pa.StringArray.from_buffers(count, offsets, pa.py_buffer(digits))


def database_cpu_s(url: str) -> float:
    """Return the CPU seconds of PostgreSQL so far: its running processes and its ended ones."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        folder = connection.execute("SHOW data_directory").fetchone()
    assert folder is not None
    master = int((Path(folder[0]) / "postmaster.pid").read_text().split("\n", 1)[0])
    ticks = sum(_stat(master)[11:15])  # its own and those of ended children
    for child in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            ticks += sum(_stat(int(child))[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return [int(field) if field.lstrip("-").isdigit() else 0 for field in fields]


def measure(server: Postgres, folder: Path) -> dict[str, float]:
    """Run all rounds, each in a separate process."""
    url = server.fresh()
    open_state(url).close()
    each = IMAGES // ROUNDS
    told = []
    for number in range(ROUNDS):
        command = [*shlex.split(os.environ.get("AROUND", "")), sys.executable, "-m", "benchmarks.control_path"]
        command += ["round", url, folder.as_uri(), str(number * each), str(each)]
        told.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        vacuum(url)
        write(figures(told))
        print(
            f"{(number + 1) * each:>12,} images: {rate(told[-1]):,.0f} a second in this round",
            file=sys.stderr,
            flush=True,
        )
    last = figures(told) | {"concurrent_per_s": round(concurrent_per_s(url, ROUNDS * each, min(each, 200_000)))}
    write(last)
    return last


def figures(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Return the module docstring's figures for the rounds so far."""
    images = sum(one["images"] for one in rounds)
    spent = Counter({step: sum(one["seconds"][step] for one in rounds) for step in (*STEPS, "append")})
    wall = sum(spent[step] for step in STEPS)
    return {
        "images": images,
        "batch_images": BATCH,
        "images_per_s": round(images / wall),
        **{f"{step}_us": round(1e6 * spent[step] / images, 1) for step in STEPS},
        "append_us": round(1e6 * spent["append"] / sum(one["appended"] for one in rounds), 1),
        "append_s": round(spent["append"] / sum(one["appends"] for one in rounds), 2),
        "first_per_s": round(rate(rounds[0])),
        "last_per_s": round(rate(rounds[-1])),
        "first_cpu_us": round(cpu_us(rounds[0]), 1),
        "last_cpu_us": round(cpu_us(rounds[-1]), 1),
        "client_share": round(sum(one["client"] for one in rounds) / wall, 2),
        "database_share": round(sum(one["database"] for one in rounds) / wall, 2),
        "peak_rss_mb": round(max(one["peak_rss_mb"] for one in rounds)),
    }


def rate(one: dict[str, Any]) -> float:
    """Return images per second of a round."""
    return float(one["images"] / sum(one["seconds"][step] for step in STEPS))


def cpu_us(one: dict[str, Any]) -> float:
    """Return microseconds of CPU per image of a round, here and in PostgreSQL."""
    return float(1e6 * (one["client"] + one["database"]) / one["images"])


def write(results: dict[str, float]) -> None:
    """Write the results so far: an interrupted long run keeps its measurements."""
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n")


def main() -> None:
    """Run as a command, or as the process of one round."""
    if sys.argv[1:2] == ["round"]:
        url, catalogue, first, count = sys.argv[2:6]
        print(json.dumps(a_round(url, Catalogue(StoreSpec(catalogue)), int(first), int(count))))
        return
    server = Postgres(
        f"shared_buffers = '{256 if FAST else 6_144}MB'", "max_wal_size = '8GB'", "maintenance_work_mem = '512MB'"
    )
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

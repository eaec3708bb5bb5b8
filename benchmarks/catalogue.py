"""The catalogue at size: one commit of 500 photos, look-ups, an erasure and maintenance, on a large and a small table.

    python -m benchmarks.catalogue                12,000,000 rows against 1,000,000: 2.5 GB of disk
    ROWS=200000 python -m benchmarks.catalogue    against a twelfth of that
    COMMITS=200 python -m benchmarks.catalogue    how many commits in a row; 1,000 otherwise
    TABLES=folder                                 keeps the tables there, and uses those of an earlier call

A table is built as maintenance leaves it: 365 days, 37 boxes a photo, 500 photos a batch, 174,000 rows a file (32 MB).
Above 20,000,000 rows, hashes and measures repeat on days whose values no look-up and no erasure reads: the disk would not
hold them otherwise. Rows, ids, keys, files, row groups and Bloom filters are as many as ever.
Each measurement runs five times in one new process, and the median counts. Commits are made by cropline itself.

supersede_growth   seconds of a commit that supersedes 500 photos scattered over all days: large table over small one
one_day_growth     the same for 500 photos of one day (of a few days where one has fewer)
append_growth      the same for 500 new photos of one day
memory_growth      the largest process of these commits on the large table over that on the small one
commit_1000_growth COMMITS commits in a row on the small table, without maintenance; each supersedes 100 photos of five
                   days: seconds of the last 50 over those of the first 50; commit_1000_s: of all of them
find_ms            the slowest of: a crop by key, a photo by id, ten photos by id with their batches (large table)
forget_s           an erasure of 10 photos in the catalogue (large table)
peak_rss_mb        the largest process of all commits and look-ups, on either table
maintain_rss_mb    of maintenance after these commits, on the large table; maintain_s how long it took
stall_s            the slowest commit of 500 photos of one day beside that maintenance, less the median without it
changes_rss_mb     of cropline.changes over all commits of the small table: every row came, some went
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue import CATALOGUE, Catalogue
from cropline.catalogue.changes import changes
from cropline.core.schemas import CROPS
from cropline.core.store_spec import StoreSpec

ROWS = int(os.environ.get("ROWS", 12_000_000))
SMALL = min(1_000_000, ROWS // 12)
COMMITS = int(os.environ.get("COMMITS", 1_000))
DAYS, BOXES, BATCH = 365, 37, 500
FIRST = date(2026, 1, 1)
PHOTOS_A_FILE = 4_700  # 32 MB, the most that maintenance merges
FULL_ROWS = 20_000_000
ROUNDS = 5
RESULT = Path(__file__).parent / "results" / "catalogue.json"
KEY = "crops/default-0a1b2c3d/cameras-4d5e6f70"
BOX_NAMES = pa.array([f"{box:04d}.jpg" for box in range(BOXES)])


def images_a_day(rows: int) -> int:
    """Return how many photos a day a table of this many rows has."""
    return max(1, rows // DAYS // BOXES)


def image_id(day: int, number: int) -> str:
    """Return the id of a day's photo."""
    return f"cam-{number % 500:03d}-{FIRST + timedelta(day):%Y%m%d}T{number:08d}"


def batch_of(day: int, number: int) -> str:
    """Return the batch that committed a day's photo."""
    minute = number // BATCH
    return f"{FIRST + timedelta(day):%Y%m%d}-{minute // 60 % 24:02d}{minute % 60:02d}00-{minute:012x}"


def key_of(image: str, box: int) -> str:
    """Return the key of a crop."""
    return f"{_folder(image)}{box:04d}.jpg"


def _folder(image: str) -> str:
    return f"{KEY}/{image}/0123456789abcdef/"


def _hexes(rng: np.random.Generator, count: int) -> pa.Array:
    offsets = np.arange(count + 1, dtype=np.int32) * 64
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(rng.bytes(32 * count).hex().encode()))


def is_read_whole(day: int) -> bool:
    """Return whether a look-up or an erasure below reads all columns of this day's rows."""
    return day % 31 == 0 or 20 <= day < 30


def rows_of(photos: list[tuple[int, int]], *, seed: int, repeating: bool = False) -> pa.Table:
    """Return the rows (CATALOGUE) of (day, number) photos, with values as random as those of real crops.

    ``repeating``: except hashes and measures.
    """
    rng, count = np.random.default_rng(seed), len(photos) * BOXES
    of_image = pa.array(np.repeat(np.arange(len(photos)), BOXES))
    boxes = np.tile(np.arange(BOXES), len(photos))
    ids = [image_id(day, number) for day, number in photos]
    days = [FIRST + timedelta(day) for day, _ in photos]
    at = [datetime(d.year, d.month, d.day, tzinfo=UTC) + timedelta(seconds=n % 86_400) for d, (_, n) in zip(days, photos, strict=True)]  # fmt: skip
    batches = pa.array([batch_of(day, number) for day, number in photos]).take(of_image)
    version = _hexes(rng, len(photos)).take(of_image)

    def same(value: Any) -> pa.Array:
        return pa.repeat(pa.scalar(value), count)

    def hashes() -> pa.Array:
        return same("cd" * 32) if repeating else _hexes(rng, count)

    def numbered(text: str, most: int) -> pa.Array:
        return pc.binary_join_element_wise(text, pa.array(rng.integers(0, most, count)).cast(pa.string()), "-")

    columns: dict[str, Any] = {
        "source": same("cameras"), "image_id": pa.array(ids).take(of_image), "version": version, "profile": same("default"),
        "profile_hash": same("ab" * 32), "fingerprint": version, "box_fingerprint": hashes(),
        "box_id": pc.binary_join_element_wise("box", pa.array(boxes).cast(pa.string()), "-"),
        "box_index": pa.array(boxes), "status": same("written"),
        "key": pc.binary_join_element_wise(pa.array([_folder(image) for image in ids]).take(of_image), BOX_NAMES.take(pa.array(boxes)), ""),
        "sha256": hashes(), "format": same("jpeg"), "label": numbered("sku", 2_000),
        "image_sha256": version, "decoder": same("regions"), "captured_at": pa.array(at).take(of_image),
        "store_id": numbered("store", 500), "camera_id": numbered("cam", 500), "manifest": batches,
        "batch_id": batches, "attempt": same(1), "flow_run": batches, "committed_at": pa.array(at).take(of_image),
        "captured_date": pa.array(days).take(of_image),
    }  # fmt: skip
    for name in ("bytes", "width", "height", "left", "top", "right", "bottom", "image_bytes"):
        columns[name] = pa.array(rng.integers(0, 20_000, count))
    for name in ("xmin", "ymin", "xmax", "ymax", "score", "luminance", "sharpness"):
        columns[name] = same(rng.random()) if repeating else pa.array(rng.random(count))
    return pa.table([_column(columns.get(f.name), f, count) for f in CATALOGUE], schema=CATALOGUE)


def _column(values: Any, field: pa.Field, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, field.type)
    return (values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values).cast(field.type)


def crops_of(photos: list[tuple[int, int]], *, seed: int) -> pa.Table:
    """Return the rows (CROPS) of these photos, as a crop job returns them."""
    rows = rows_of(sorted(photos, key=lambda photo: image_id(*photo)), seed=seed)
    text = pc.strftime(rows["captured_at"], format="%Y-%m-%dT%H:%M:%S+00:00")
    at = rows.schema.get_field_index("captured_at")
    return rows.set_column(at, "captured_at", text).select(CROPS.names).cast(CROPS)


def build(folder: Path, rows: int, row_maker: Callable[..., pa.Table] = rows_of) -> None:
    """Build a table: a file a day, and one more each PHOTOS_A_FILE photos. All cores work."""
    from cropline.catalogue import delta, entries
    from cropline.catalogue.files import Snapshot
    from cropline.catalogue.log import COMPACTION, STEP

    spec, started = delta.table_spec(StoreSpec(folder.as_uri())), time.monotonic()
    table = delta.open_or_create(spec)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        actions = [
            action for made in pool.map(partial(_build_day, folder, rows, row_maker), range(DAYS)) for action in made
        ]
    entries.put(Snapshot(spec, table), entries.Entry("WRITE", entries.added(actions), info={STEP: COMPACTION}))
    delta.open_or_create(spec).create_checkpoint()
    size = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    print(f"{rows:>12,} rows in {len(actions):,} files, {size / 1e6:,.0f} MB, built in {time.monotonic() - started:.0f} s", flush=True)  # fmt: skip


def _build_day(folder: Path, rows: int, row_maker: Callable[..., pa.Table], day: int) -> list[dict[str, Any]]:
    """Write the files of one day. Return their add actions."""
    from cropline.catalogue.data_files import DataFileWriter, new_path

    made, count = [], images_a_day(rows)
    make = row_maker
    if row_maker is rows_of and rows > FULL_ROWS and not is_read_whole(day):
        make = partial(rows_of, repeating=True)
    for start in range(0, count, PHOTOS_A_FILE):
        path, upto = new_path(FIRST + timedelta(day)), min(start + PHOTOS_A_FILE, count)
        target = folder / "catalogue" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        writer = DataFileWriter(
            target, CATALOGUE, FIRST + timedelta(day), rows=(upto - start) * BOXES, compression="zstd"
        )
        for part in range(start, upto, BATCH):
            photos = [(day, number) for number in range(part, min(part + BATCH, upto))]
            writer.write(make(sorted(photos, key=lambda photo: image_id(*photo)), seed=day * 100_000 + part))
        writer.close()
        made.append(writer.action(path, target.stat().st_size, data_change=True))
    return made


def _scattered(rows: int, turn: int) -> list[tuple[int, int]]:
    a_day = images_a_day(rows)
    return sorted({(n % DAYS, (n // DAYS + turn * 7 + n * 13) % a_day) for n in range(BATCH)})


def _one_day(rows: int, turn: int) -> list[tuple[int, int]]:
    a_day = images_a_day(rows)  # a small table has fewer a day: then of a few days
    return sorted({((100 + 30 * turn + n // a_day) % DAYS, n % a_day) for n in range(BATCH)})


def _of_five_days(rows: int, turn: int) -> list[tuple[int, int]]:
    a_day = images_a_day(rows)
    return sorted({((turn * 5 + n // 20) % DAYS, (turn * 5 // DAYS * 20 + n % 20) % a_day) for n in range(100)})


def _new(_rows: int, turn: int) -> list[tuple[int, int]]:
    return [(180, 10_000_000 + 1_000 * turn + n) for n in range(BATCH)]


def commit(
    folder: Path,
    photos: list[tuple[int, int]],
    batch: str,
    *,
    supersedes: bool,
    turn: int,
    batches: dict[tuple[int, int], str] | None = None,
) -> float:
    """Commit a batch of these photos; return the seconds. ``batches``: where they are not in that of their building."""
    crops = crops_of(photos, seed=turn)
    works = [("cameras", image_id(*photo), "default") for photo in photos]
    started = time.monotonic()
    Catalogue(StoreSpec(folder.as_uri())).append(
        crops,
        batch_id=batch,
        attempt=1,
        flow_run="benchmark",
        committed_at=datetime.now(UTC),
        superseding=works if supersedes else (),
        committed_in={(batches or {}).get(photo, batch_of(*photo)) for photo in photos} if supersedes else None,
    )
    return time.monotonic() - started


def measure(what: str, folder: Path, rows: int) -> dict[str, float]:
    """Run one measurement in this process."""
    catalogue = Catalogue(StoreSpec(folder.as_uri()))
    a_day = images_a_day(rows)

    def timed(call: Callable[[], Any]) -> float:
        started = time.monotonic()
        call()
        return time.monotonic() - started

    def found(day: int) -> Callable[[], Any]:
        photo = (day, day % a_day)
        key, image = key_of(image_id(*photo), 5), image_id(*photo)
        if what == "key":
            return lambda: catalogue.find(key)
        if what == "photo":
            return lambda: catalogue.image_rows("cameras", image)
        ten = [(day + n, n % a_day) for n in range(10)]
        batches = {batch_of(*photo) for photo in ten}
        return lambda: catalogue.images_rows("cameras", {image_id(*photo) for photo in ten}, committed_in=batches)

    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if what in ("scattered", "one_day", "new"):
        chosen = {"scattered": _scattered, "one_day": _one_day, "new": _new}[what]
        took = [
            commit(folder, chosen(rows, turn), f"{stamp}-{what}-{turn}", supersedes=what != "new", turn=turn)
            for turn in range(ROUNDS)
        ]
    elif what == "commits":
        held: dict[tuple[int, int], str] = {}
        took = []
        for turn in range(COMMITS):
            photos, name = _of_five_days(rows, turn), f"{stamp}-{turn:06d}"
            took.append(commit(folder, photos, name, supersedes=True, turn=turn, batches=held))
            held |= dict.fromkeys(photos, name)
        first, last = sum(took[:50]), sum(took[-50:])
        return {"s": sum(took), "max_s": max(took), "rss_mb": _rss(), "growth": last / first}
    elif what == "forget":
        images = [{image_id(n * 31 % DAYS, (turn + 20 + n) % a_day) for n in range(10)} for turn in range(2)]
        took = [timed(lambda ids=ids: catalogue.forget_images("cameras", ids)) for ids in images]  # type: ignore[misc]
    elif what == "maintain":
        took = [timed(lambda: catalogue.maintain(vacuum_after=timedelta(days=30)))]
    elif what == "changes":
        told = changes(0, storage=folder.as_uri())
        took = [timed(lambda: sum(map(len, told.batches())))]
    elif what == "beside":
        took = []
        for turn in range(200):
            took.append(
                commit(folder, _one_day(rows, turn % 200), f"{stamp}-beside-{turn}", supersedes=False, turn=turn)
            )
            if Path(f"{folder}.maintained").exists():
                break
    else:
        took = [timed(found(20 + turn)) for turn in range(ROUNDS)][1:]
    return {"s": statistics.median(took), "max_s": max(took), "rss_mb": _rss()}


def _rss() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _process(what: str, folder: Path, rows: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.catalogue", what, str(folder), str(rows)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _result(process: subprocess.Popen[bytes]) -> dict[str, float]:
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def main() -> None:
    kept = os.environ.get("TABLES")
    with tempfile.TemporaryDirectory(prefix="cropline-benchmark-") as scratch:
        tables = {rows: Path(kept or scratch) / f"rows-{rows}" for rows in (SMALL, ROWS)}
        for rows, folder in tables.items():
            if not folder.exists():
                build(folder, rows)
        results: dict[tuple[str, int], dict[str, float]] = {}
        for what in ("new", "one_day", "scattered", "key", "photo", "photos", "forget"):
            for rows, folder in tables.items():
                results[what, rows] = told = _result(_process(what, folder, rows))
                print(f"{what:>10} {rows:>12,} rows: {told['s']:8.3f} s, at most {told['max_s']:8.3f} s, {told['rss_mb']:6.0f} MB", flush=True)  # fmt: skip
        changed = _result(_process("changes", tables[SMALL], SMALL))
        in_a_row = _result(_process("commits", tables[SMALL], SMALL))
        large = tables[ROWS]
        beside = _process("beside", large, ROWS)
        maintained = _result(_process("maintain", large, ROWS))
        marker = Path(f"{large}.maintained")
        marker.touch()
        stalled = _result(beside)
        marker.unlink()
    growth = {what: results[what, ROWS]["s"] / results[what, SMALL]["s"] for what in ("scattered", "one_day", "new")}
    figures = {
        "rows": ROWS,
        "small_rows": SMALL,
        "supersede_growth": round(growth["scattered"], 2),
        "one_day_growth": round(growth["one_day"], 2),
        "append_growth": round(growth["new"], 2),
        "memory_growth": round(
            max(results[what, ROWS]["rss_mb"] for what in growth)
            / max(results[what, SMALL]["rss_mb"] for what in growth),
            2,
        ),
        "commit_1000_growth": round(in_a_row["growth"], 2),
        "commits": COMMITS,
        "commit_1000_s": round(in_a_row["s"], 1),
        "supersede_s": round(results["scattered", ROWS]["s"], 2),
        "one_day_s": round(results["one_day", ROWS]["s"], 2),
        "append_s": round(results["new", ROWS]["s"], 2),
        "find_ms": round(1000 * max(results[what, ROWS]["s"] for what in ("key", "photo", "photos")), 1),
        "forget_s": round(results["forget", ROWS]["s"], 2),
        "peak_rss_mb": round(max(told["rss_mb"] for told in results.values())),
        "changes_rss_mb": round(changed["rss_mb"]),
        "changes_s": round(changed["s"], 1),
        "maintain_rss_mb": round(maintained["rss_mb"]),
        "maintain_s": round(maintained["s"], 1),
        "stall_s": round(max(0.0, stalled["max_s"] - results["new", ROWS]["s"]), 2),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    for name, value in figures.items():
        print(f"{name:>18} {value:,}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()

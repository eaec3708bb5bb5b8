"""The cost of each output kind (objects, shards, parquet). Writes results/outputs.json, for each KIND:

KIND_crops_per_s   of the whole job on local files, the best of all rounds, in turns
KIND_vs_objects    that / that of objects, the median of the rounds' own ratios: packing is at least as fast as files
KIND_in_memory_vs_objects  the same in memory, where files cost nothing; on a disk a file costs 10 to 300 us
KIND_puts          requests that store the objects on S3: one each; beyond a part's size one per part and two
KIND_bytes         bytes in the store after a job
KIND_puts_per_1000_crops

The whole job is that of crop_engine: 320 photos of 9 MP with 37 boxes, two crop processes. A pack has 256 MB. Packs
are stored when a job ends, which takes 20 to 50 ms whatever their size. With 64 photos, a tenth of a pack, packing
therefore reached only 0.98 of the files' rate.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from contextlib import ExitStack
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.bed import draw_bed, scratch, serve
from benchmarks.crop_engine import PHOTOS, Bed, worker

KINDS = ("objects", "shards", "parquet")
JOB = 320  # photos
ROUNDS = int(os.environ.get("ROUNDS", "4"))
PART = 5 * 1024 * 1024  # obstore's part size
RESULT = Path(__file__).parent / "results" / "outputs.json"


def main() -> None:
    photos = draw_bed(PHOTOS)
    crops = sum(len(photos[number % PHOTOS].boxes) for number in range(JOB))
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, scratch() as memory:
        disk = Path(name)
        with serve(photos[0].path.parent, disk) as (_, address):
            bed = Bed(photos, address, disk)
            seconds, in_memory = (measure(bed, {kind: place / kind for kind in KINDS}) for place in (disk, memory))
        for kind in KINDS:
            sizes = [path.stat().st_size for path in (disk / kind).rglob("*") if path.is_file()]
            figures |= described(kind, seconds, sizes, crops)
            figures[f"{kind}_in_memory_vs_objects"] = ratio(in_memory, kind)
    figures["crops"] = crops
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    for name, value in figures.items():
        print(f"{name:<32}{value:>14}")


def measure(bed: Bed, stores: dict[str, Path]) -> dict[str, list[float]]:
    """Return the seconds of each kind by round. Its rounds have one store, and no crop is put twice.

    One process per kind: a job of another kind or store would restart the crop processes, which no run does between
    its batches.
    """
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        workers = {kind: stack.enter_context(worker("benchmarks.whole_job")) for kind in KINDS}
        for kind in KINDS:
            workers[kind].ask(order(bed, kind, stores[kind]))
        for number in range(ROUNDS):
            for kind in KINDS[number % 3 :] + KINDS[: number % 3]:
                seconds[kind].append(workers[kind].ask(order(bed, kind, stores[kind]))["seconds"])
    return seconds


def order(bed: Bed, kind: str, store: Path) -> dict[str, Any]:
    packed = [] if kind == "objects" else [["default", kind, 256_000_000]]
    return bed.order(JOB, store=store.as_uri()) | {"endpoint": None, "packed": packed}


def described(kind: str, seconds: dict[str, list[float]], sizes: list[int], crops: int) -> dict[str, Any]:
    jobs = ROUNDS + 1  # including the warm-up
    puts = round(sum(1 if size <= PART else ceil(size / PART) + 2 for size in sizes) / jobs)
    return {
        f"{kind}_crops_per_s": round(crops / min(seconds[kind]), 1),
        f"{kind}_vs_objects": ratio(seconds, kind),
        f"{kind}_puts": puts,
        f"{kind}_bytes": round(sum(sizes) / jobs),
        f"{kind}_puts_per_1000_crops": round(1000 * puts / crops, 1),
    }


def ratio(seconds: dict[str, list[float]], kind: str) -> float:
    ratios = [base / own for base, own in zip(seconds["objects"], seconds[kind], strict=True)]
    return round(statistics.median(ratios), 3)


if __name__ == "__main__":
    main()

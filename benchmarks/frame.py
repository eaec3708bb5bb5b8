"""The front door (cropline.crop) against the job that it calls. Writes results/frame.json:

frame_vs_job       seconds of the whole job (crop_engine) / seconds of cropline.crop on a pandas frame with one row per box, of
                   the same photos, crops going to files
frame_vs_seed      crops/s of cropline.crop / crops/s of a plain loop that fetches, opens, crops and saves box by box
spark_frame_vs_spark_job  seconds of the whole job on Spark local[2] / seconds of cropline.crop on a Spark frame with one row per
                   box, with the session running; rows come back to the driver in both
noop_step_vs_none  seconds of cropline.crop / the same with a function that does nothing on every crop
large_peak_vs_frame  peak memory of the calling process over a frame of a million rows / the memory of the returned frame, by
                   pandas' own count; its boxes cannot be cut, since a million crops take a quarter of an hour

Methods take turns in one run; the best round of each counts. ROUNDS and PHOTOS come from the environment.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import crop_ways
from benchmarks.bed import draw_bed, scratch, serve
from benchmarks.crop_engine import Bed, worker

PHOTOS = int(os.environ.get("PHOTOS", "64"))
ROUNDS = int(os.environ.get("ROUNDS", "7"))
ROWS = int(os.environ.get("ROWS", "1000000"))
_WAYS = {
    "job": "benchmarks.whole_job",
    "frame": "benchmarks.frame_job",
    "step": "benchmarks.frame_job",
    "spark_job": "benchmarks.whole_job",
    "spark_frame": "benchmarks.frame_job",
}
RESULT = Path(__file__).parent / "results" / "frame.json"


def main() -> None:
    photos = draw_bed(PHOTOS)
    with scratch() as folder:
        sink = folder / "sink"
        sink.mkdir()
        with serve(photos[0].path.parent, sink) as (_, address):
            bed = Bed(photos, address, folder)
            seconds = measure(bed, folder)
            sampled = bed.sample(f"{folder}/plain-")
            seconds["plain"] = [crop_ways.plain(sampled) for _ in range(2)]
            with worker("benchmarks.frame_job") as large:
                held = large.ask({"rows": ROWS, "url": f"{address}/photos/{photos[0].path.name}"})
    best = {name: min(own) for name, own in seconds.items()}
    figures: dict[str, Any] = {
        "frame_vs_job": round(best["job"] / best["frame"], 3),
        "frame_vs_seed": round(
            best["plain"] / len(sampled) / (best["frame"] / sum(len(photo.boxes) for photo in photos)), 1
        ),
        "spark_frame_vs_spark_job": round(best["spark_job"] / best["spark_frame"], 3),
        "noop_step_vs_none": round(best["frame"] / best["step"], 3),
        "large_peak_vs_frame": round(held["peak_mb"] / held["frame_mb"], 3),
        **{f"large_{name}": round(value, 1) for name, value in held.items()},
        **{f"{name}_seconds": round(value, 3) for name, value in best.items()},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    for name, value in figures.items():
        print(f"{name:<24}{value:>14}")


def measure(bed: Bed, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each method by round, after a warm-up. One process per method keeps its crop processes."""
    seconds: dict[str, list[float]] = {name: [] for name in _WAYS}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(worker(module)) for name, module in _WAYS.items()}
        for number in range(ROUNDS + 1):
            for name, ways in workers.items():
                # The same store in each round: another one would restart the crop processes.
                order = bed.order(PHOTOS, store=(folder / name).as_uri()) | {"endpoint": None}
                if name.startswith("spark"):
                    order |= {"engine": "spark"}
                if name.endswith("job"):
                    # A slot of Spark has one crop process.
                    order |= {"processes": 1 if name == "spark_job" else 2}
                else:
                    order |= {"function": name == "step"}
                took = ways.ask(order)["seconds"]
                if number:
                    seconds[name].append(took)
    return seconds


if __name__ == "__main__":
    main()

"""Memory of the process that drives a batch on Spark, with a small and a large backlog. spark.py runs it:

driver_peak_mb    peak RSS of the driver's Python, from start to commit of one batch, with 200 such batches waiting
driver_growth     the same over the peak with one batch waiting
driver_batch_images, driver_backlog_images   the sizes of the batch and of the backlog

The driver claims from SQLite, reads sizes, runs the job on Spark local[2], appends to the catalogue, commits. Its JVM
is not counted: in local mode it also runs the executors.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.bed import BedPhoto
from benchmarks.state import HASH, NOON, candidate_rows, open_state
from cropline.config.profile import Profile
from cropline.core.store_spec import StoreSpec
from cropline.intake import manifest
from cropline.state import Registration

BATCH = int(os.environ.get("DRIVER_BATCH", "100"))
BACKLOG = 200 * BATCH
MANIFEST = 20_000


def memory(address: str, photo: BedPhoto, folder: Path) -> dict[str, float]:
    """Return the figures of the module's docstring."""
    peaks = []
    for images in (BATCH, BACKLOG):
        home = folder / f"driver-{images}"
        home.mkdir()
        wait(home, images, f"{address}/photos/{photo.path.name}", photo.boxes)
        command = [sys.executable, "-m", "benchmarks.driver", str(home)]
        peaks.append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    return {
        "driver_peak_mb": peaks[1],
        "driver_growth": peaks[1] / peaks[0],
        "driver_batch_images": BATCH,
        "driver_backlog_images": BACKLOG,
    }


def wait(home: Path, images: int, url: str, boxes: Any) -> None:
    """Land and register this many images in ``home``; all are the same photo."""
    with open_state(f"sqlite:///{home}/state.db") as state:
        for first in range(0, images, MANIFEST):
            numbers = list(range(first, min(first + MANIFEST, images)))
            key = f"manifests/cams/{first:09d}.parquet"
            rows = candidate_rows(numbers, 0, key)
            land(home / key, rows, url, boxes)
            at = NOON + timedelta(milliseconds=100 * numbers[-1])
            state.register(
                Registration(
                    "cams", key, at.isoformat(), rows, [], NOON, profiles={"default": (HASH, Profile().recipe)}
                )
            )


def land(path: Path, rows: pa.Table, url: str, boxes: Any) -> None:
    """Write the manifest of these candidates."""
    edges = ("xmin", "ymin", "xmax", "ymax")
    nested = [{"box_id": str(i)} | dict(zip(edges, box, strict=True)) for i, box in enumerate(boxes)]
    constant = {"url": url, "coordinates": "normalised", "orientation": "upright", "boxes": nested}
    known = rows.select(["source", "image_id", "captured_at"]).to_pylist()
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_rows((row | constant | {"row": number} for number, row in enumerate(known)), path)


def drive(home: Path) -> None:
    """Drive one batch as a flow does. Print the peak in MB."""
    from benchmarks.control_path import commit
    from benchmarks.whole_job import crop_job
    from cropline.catalogue import Catalogue
    from cropline.config.settings import EngineSettings
    from cropline.core.schemas import STORES
    from fugue_jobs.engines.manifests import ManifestRows
    from fugue_jobs.engines.run import run_crop_job, stop_engines

    store = StoreSpec(home.as_uri())
    with open_state(f"sqlite:///{home}/state.db") as state:
        batch = state.claim(limit=BATCH, owner="benchmark")
        if batch is None or batch.images.num_rows != BATCH:
            raise RuntimeError("no batch")
        images = ManifestRows.of(store, batch.images)
        waits = state.report(last_batches=1).images["pending"]
        engine = EngineSettings.model_validate({"kind": "spark", "master": "local[2]"})
        job = crop_job(store.url, None)
        crops = run_crop_job(images, batch.images, STORES.empty_table(), job, engine, waiting=waits)
        if set(crops["status"].to_pylist()) != {"written"}:
            raise RuntimeError("not every crop was written")
        now = datetime.now(UTC)
        Catalogue(store).append(crops, batch_id=batch.batch_id, attempt=1, flow_run="benchmark", committed_at=now)
        commit(state, batch)
    stop_engines()
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


if __name__ == "__main__":
    drive(Path(sys.argv[1]))

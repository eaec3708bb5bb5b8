"""crop: every box of a batch's images is cut by the Fugue job, on the engine that the settings name.

Belongs here: gathering the job's three inputs and checking that its rows account for every box. Does not: cutting
(fugue_jobs/). The lease is renewed while the job runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefect import get_run_logger, task

from cropline import manifest
from cropline.errors import NotReconciled
from cropline.run import Heartbeat, Run
from cropline.stores import read_stores
from tasks.options import STEP

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.state import Batch


@task(
    name="crop",
    task_run_name="crop {batch.images.num_rows} images on {run.settings.engine.kind}",
    **STEP,
)
def crop(run: Run, batch: Batch) -> pa.Table:
    """schemas.CROPS, one row for each box and profile of the batch; crops are durable when this returns."""
    from fugue_jobs.crop_images import CropJob
    from fugue_jobs.engines import run_crop_job

    settings = run.settings
    images = batch_images(run, batch)
    expected = _boxes_in(images, batch)
    job = CropJob(run.spec, settings.fetch, settings.pictures, settings.engine.processes)
    started = time.monotonic()
    with Heartbeat(run.state, batch, settings.state.lease_s / 3):
        crops = run_crop_job(
            images,
            batch.images,
            read_stores(run.spec, settings.engine.stores),
            job,
            settings.engine,
            on_image=lambda rows: run.on_progress("crops", rows, expected),
            waiting=_waiting(run),
            on_engine=run.funnel.engines.append,
        )
    run.funnel.seconds += time.monotonic() - started
    used = run.funnel.engines[-1]
    get_run_logger().info(
        "%s (%s): %d parts, %.1f s, %.0f executor seconds",
        used.kind,
        used.reason,
        used.partitions,
        used.seconds,
        used.executor_seconds,
    )
    if crops.num_rows != expected:
        raise NotReconciled(f"batch {batch.batch_id}: {expected} boxes went in, {crops.num_rows} rows came out")
    return crops


def _waiting(run: Run) -> int:
    """Images that wait beside the batch; asked only where it decides something."""
    if run.settings.engine.kind not in ("auto", "spark"):
        return 0
    return run.state.report(last_batches=1).images["pending"] // len(run.settings.profiles)


def batch_images(run: Run, batch: Batch) -> pa.Table:
    """The manifest rows of a batch's images, in the columns that the engine takes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from cropline.schemas import IMAGES

    rows_of: dict[str, list[int]] = {}
    for row in batch.images.select(["manifest", "manifest_row"]).to_pylist():
        rows_of.setdefault(row["manifest"], []).append(row["manifest_row"])
    parts = []
    for key, wanted in rows_of.items():
        rows = manifest.read(run.spec, key)
        rows = rows.filter(pc.is_in(rows["row"], pa.array(wanted, pa.int64())))
        captured = pc.strftime(rows["captured_at"], "%Y-%m-%dT%H:%M:%SZ")
        rows = rows.set_column(rows.schema.get_field_index("captured_at"), "captured_at", captured)
        rows = rows.append_column("manifest", pa.array([key] * len(rows), pa.string()))
        parts.append(rows.rename_columns({"row": "manifest_row"}))
    present = [name for name in IMAGES.names if name in parts[0].column_names]
    return pa.concat_tables(parts).select(present)


def _boxes_in(images: pa.Table, batch: Batch) -> int:
    """Boxes times profiles, counted from the inputs alone: the job's own count must meet it."""
    boxes = {
        (r["manifest"], r["manifest_row"]): len(r["boxes"] or ())
        for r in images.select(["manifest", "manifest_row", "boxes"]).to_pylist()
    }
    claims = batch.images.select(["manifest", "manifest_row", "work"]).to_pylist()
    missing = [c for c in claims if (c["manifest"], c["manifest_row"]) not in boxes]
    if missing:
        raise NotReconciled(
            f"batch {batch.batch_id}: {len(missing)} claimed images are in no manifest, the first in {missing[0]['manifest']}"
        )
    return sum(boxes[c["manifest"], c["manifest_row"]] * len(c["work"]) for c in claims)

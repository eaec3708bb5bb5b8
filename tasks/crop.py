"""crop: cuts every box of a batch's images with the Fugue job, on the engine of the settings.

It gathers the job's three inputs and checks that the job's rows account for every box.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prefect import get_run_logger, task

from cropline.core.errors import NotReconciled
from cropline.intake.script_frames import read_frames
from cropline.intake.stores import read_store_columns, read_stores, with_store_columns
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.reuse import reuse_crops
from cropline.pipeline.run import Run
from tasks.options import STEP
from tasks.refresh import moved_to, places, refresh
from tasks.unknown_commits import find_unknown_commits, works_of

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.config.settings import Settings
    from cropline.pipeline.funnel import EngineUse
    from cropline.state import Batch
    from fugue_jobs.crop_images import CropJob
    from fugue_jobs.engines.manifests import ManifestRows

_WORK = ("image_id", "profile")


@dataclass(frozen=True)
class Cut:
    """The job's result: schemas.CROPS, one row per box and profile. The crops are stored."""

    crops: pa.Table
    counts: pa.Table  # manifests.COUNTS: number of boxes of each image
    engines: tuple[EngineUse, ...]  # one per run of the job; empty when no box had to be cut
    seconds: float


def warm_up(run: Run, images: int) -> None:
    """Start the crop processes while the steps before ``crop`` run, where they run in this machine."""
    if run.settings.engine.kind in ("native", "duckdb"):
        from fugue_jobs.crop_images import warm

        warm(_job(run.settings), images)


def _job(settings: Settings, batch_id: str = "") -> CropJob:
    from fugue_jobs.crop_images import CropJob

    packed = tuple(
        (name, profile.output, profile.shard_mb * 1_000_000)
        for name, profile in sorted(settings.profiles.items())
        if profile.output != "objects"
    )
    fetch, pictures = settings.fetch.options, settings.pictures.options
    return CropJob(settings.storage.spec, fetch, pictures, settings.engine.processes, packed, batch_id)


def crop(run: Run, batch: Batch, check: Callable[[], None]) -> Cut:
    """Cut the batch. ``check`` is called about once a second; an exception from it ends the job."""
    import pyarrow as pa

    from cropline.catalogue import Catalogue
    from cropline.core.schemas import CROPS
    from fugue_jobs.engines.manifests import ManifestRows
    from fugue_jobs.engines.run import run_crop_job
    from fugue_jobs.rows import in_order

    settings = run.settings
    images = ManifestRows.of(run.spec, batch.images, run.near)
    expected = _boxes_in(images.counts, batch)
    stores = read_stores(run.spec, settings.engine.stores)
    of_stores = read_store_columns(run.spec, settings.engine.stores)
    kept, claims = _reused(run, batch, stores)
    frames = read_frames(run.spec, settings.engine.frames)
    adds = settings.engine.script is not None or any(
        step.columns for p in settings.profiles.values() for step in p.steps
    )
    columns = Catalogue(run.spec).columns() if adds or of_stores is not None else None
    known = columns if adds else None
    job = _job(settings, batch.batch_id)
    nothing_to_cut = 0 < kept.num_rows == expected
    used: list[EngineUse] = []
    started = time.monotonic()

    def cut(images: ManifestRows, claims: pa.Table, on_image: Callable[[int], None]) -> pa.Table:
        return run_crop_job(
            images,
            claims,
            stores,
            job,
            settings.engine,
            on_image=on_image,
            waiting=_waiting(run),
            on_engine=used.append,
            check=check,
            frames=frames,
            known=known,
        )

    def joined(rows: pa.Table) -> pa.Table:
        return rows if columns is None else with_store_columns(rows, of_stores, columns)

    joined(CROPS.empty_table())  # a column of another type is refused before anything is fetched
    if nothing_to_cut:
        return Cut(joined(in_order(kept)), images.counts, (), 0.0)
    crops = cut(images, claims, lambda rows: run.on_progress("crops", rows, expected))
    crops = _again_with_fresh_urls(run, batch, claims, crops, cut)
    seconds = time.monotonic() - started
    get_run_logger().info(
        "%s (%s): %d parts, %.1f s, %.0f executor seconds",
        used[0].kind,
        used[0].reason,
        used[0].partitions,
        used[0].seconds,
        used[0].executor_seconds,
    )
    if crops.num_rows + kept.num_rows != expected:
        came_out = f"the job returned {crops.num_rows} rows and {kept.num_rows} were kept"
        raise NotReconciled(f"batch {batch.batch_id}: expected {expected} rows, but {came_out}")
    whole = in_order(pa.concat_tables([crops, kept], promote_options="default")) if kept.num_rows else crops
    return Cut(joined(whole), images.counts, tuple(used), seconds)


crop_task = task(
    name="crop", task_run_name="crop {batch.images.num_rows} images on {run.settings.engine.kind}", **STEP
)(crop)


def _again_with_fresh_urls(
    run: Run,
    batch: Batch,
    claims: pa.Table,
    crops: pa.Table,
    cut: Callable[[ManifestRows, pa.Table, Callable[[int], None]], pa.Table],
) -> pa.Table:
    """Return the crops with new rows for photos whose URL had expired and has a new one. Done once per batch."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from fugue_jobs.engines.manifests import ManifestRows
    from fugue_jobs.rows import in_order

    expired = set(places(crops.filter(pc.equal(crops["reason"], "url_expired"))))
    if not expired:
        return crops
    asked = claims.filter(pa.array([place in expired for place in places(claims)], pa.bool_()))
    moved = refresh(run, batch, asked)
    run.add(Funnel(not_refreshed=asked.num_rows - len(moved)))
    if not moved:
        return crops
    asked = asked.filter(pa.array([place in moved for place in places(asked)], pa.bool_()))
    stay = crops.filter(pa.array([place not in moved for place in places(crops)], pa.bool_()))
    asked = moved_to(asked, moved)
    again = cut(ManifestRows.of(run.spec, asked), asked, lambda _rows: None)
    return in_order(pa.concat_tables([stay, again], promote_options="default"))


def _reused(run: Run, batch: Batch, stores: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return (rows of boxes whose crops stay, the claims without these boxes)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from cropline.catalogue import Catalogue
    from cropline.core.schemas import CROPS
    from fugue_jobs.engines.manifests import ManifestRows

    known = set(batch.superseding)
    # After a loss of the state the catalogue may hold rows that the state does not know.
    others = find_unknown_commits(run)
    unknown = set(works_of(batch)) - known if others else set()
    earlier = {image_id for _, image_id, _ in known | unknown}
    if not earlier:
        return CROPS.empty_table(), batch.images
    rows = Catalogue(run.spec).images_rows(batch.source, earlier, committed_in=None if others else batch.committed_in)
    again = batch.images.filter(pc.is_in(batch.images["image_id"], pa.array(sorted(earlier))))
    images = ManifestRows.of(run.spec, again, run.near).table()
    keeps = {name: profile.retention_days for name, profile in run.settings.profiles.items()}
    kept, claims = reuse_crops(
        rows, images, batch.images, keeps, datetime.now(UTC), unknown, rewriting=batch.rewriting, stores=stores
    )
    rewritten = sum(row in batch.rewriting for row in zip(*(kept[n].to_pylist() for n in _WORK), strict=True))
    run.add(Funnel(rewritten=rewritten))
    if rewritten:
        get_run_logger().info("%d rows have new metadata and the same crops: only the rows are written", rewritten)
    if kept.num_rows > rewritten:
        get_run_logger().info("%d boxes did not change: their crops stay", kept.num_rows - rewritten)
    return kept, claims


def _waiting(run: Run) -> int:
    """Return how many images wait besides the batch. Only asked when an engine choice depends on it."""
    if run.settings.engine.kind not in ("auto", "spark", "emr-serverless"):
        return 0
    return run.state.report(last_batches=1).images["pending"] // len(run.settings.profiles)


def _boxes_in(counts: pa.Table, batch: Batch) -> int:
    """Return boxes times profiles, counted from the inputs alone. The job's own count must equal it."""
    boxes = {(row["manifest"], row["manifest_row"]): row["boxes"] for row in counts.to_pylist()}
    claims = batch.images.select(["manifest", "manifest_row", "work"]).to_pylist()
    missing = [c for c in claims if (c["manifest"], c["manifest_row"]) not in boxes]
    if missing:
        raise NotReconciled(
            f"batch {batch.batch_id}: {len(missing)} claimed images are in no manifest, the first in {missing[0]['manifest']}"
        )
    return sum(boxes[c["manifest"], c["manifest_row"]] * len(c["work"]) for c in claims)

"""check: does the catalogue hold what a committed batch should have written, and do its photos show anything?

Nothing is undone. A broken critical rule fails the run, so that a person looks at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import get_run_logger, task

from cropline.core.errors import CatalogueError
from cropline.pipeline.run import Run
from tasks.options import STEP
from tasks.warnings import warn

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.state import Batch
    from expectations.objects import StoredObject

# Crops of a batch that are read back: enough to notice a store that loses or mixes up objects, cheap at any batch size.
_READ_BACK = 20


def check(run: Run, batch: Batch, crops: pa.Table, counts: pa.Table | None) -> list[tuple[str, str]]:
    """Check a committed batch against the catalogue's expectations. Return what is unusual: (kind, message).

    ``counts``: manifests.COUNTS of its images; they are read when not given.
    Raise CatalogueError when crops were lost or mixed up.
    """
    from drift.detect import find_poor_photos
    from drift.near_duplicates import check_photos
    from expectations.catalogue import check_batch, claimed_boxes
    from expectations.objects import read_objects, sample_keys
    from fugue_jobs.engines.manifests import ManifestRows

    if counts is None:
        counts = ManifestRows.of(run.spec, batch.images, run.near).counts
    claimed = claimed_boxes(counts, batch.images)
    objects = read_objects(run.spec, crops, sample_keys(crops, _READ_BACK))
    if None in objects.values():
        objects = _without_forgotten(run, crops, objects | _moved(run, batch, objects))
    verdict = check_batch(crops, claimed, objects)
    if verdict.critical:
        raise CatalogueError(f"batch {batch.batch_id} is committed but wrong: {', '.join(verdict.critical)}")
    for name, rows in verdict.broken.items():
        get_run_logger().warning("batch %s: %d rows break %s", batch.batch_id, len(rows), name)
    return warn(run, [*find_poor_photos(crops), *check_photos(run.spec, run.settings.api.source, crops)])


check_task = task(name="check", task_run_name="check batch {batch.batch_id}", **STEP)(check)


def _moved(run: Run, batch: Batch, objects: dict[str, StoredObject | None]) -> dict[str, StoredObject | None]:
    """Look for missing crops where their rows are now: an erasure may have moved their pack since the commit."""
    from cropline.catalogue import Catalogue
    from expectations.objects import read_objects

    missing = [key for key, found in objects.items() if found is None]
    rows = Catalogue(run.spec).images_rows(batch.source, set(batch.images["image_id"].to_pylist()))
    return read_objects(run.spec, rows, missing)


def _without_forgotten(
    run: Run, crops: pa.Table, objects: dict[str, StoredObject | None]
) -> dict[str, StoredObject | None]:
    """Drop crops that are missing because their photo was forgotten since the commit."""
    missing = {key for key, found in objects.items() if found is None}
    image_of = dict(zip(crops["key"].to_pylist(), crops["image_id"].to_pylist(), strict=True))
    gone = run.state.forgotten(run.settings.api.source, sorted({image_of[key] for key in missing}))
    return {key: found for key, found in objects.items() if found is not None or image_of[key] not in gone}

"""The transformer of the crop job: image rows in, exactly one flat row per box and profile out.

The crop processes fetch photos and store crops, so no image bytes pass through this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cropline.core.crop_options import FetchOptions, PictureOptions
from cropline.core.errors import EngineError
from cropline.core.failures import PhotoFailure
from cropline.core.own_columns import OwnColumn
from cropline.core.store_spec import StoreSpec
from fugue_jobs.pool.assignment import Assignment, Packed
from fugue_jobs.pool.crop_pool import usable_cores
from fugue_jobs.pool.idle_pools import borrow_pool, return_pool
from fugue_jobs.rows import Ended, crop_rows, read_images
from fugue_jobs.work import ImageOutcome, ImageWork, failed_photo

ROWS_A_TABLE = 2_048


@dataclass(frozen=True)
class CropJob:
    """What a worker needs besides the rows. Picklable. Secrets are only inside ``fetch``, whose repr hides them."""

    store: StoreSpec
    fetch: FetchOptions
    pictures: PictureOptions
    processes: int = 0  # crop processes per worker; 0: one per core
    packed: Packed = ()  # profiles whose crops go into packs; other crops are single objects
    batch: str = ""  # names the folder of its packs; stored as metadata of objects on S3
    columns: tuple[OwnColumn, ...] = ()  # of the profiles' steps; run_crop_job reads them from the claim


def crop_images(
    job: CropJob, on_image: Callable[[int], None] | None = None, check: Callable[[], None] | None = None
) -> Callable[[Iterable[pa.Table]], Iterable[pa.Table]]:
    """Return a function from tables of schemas.IMAGES rows to tables of rows.crops_schema rows.

    It yields exactly one row per box and profile, in the order of the images. ``on_image`` is called
    with the number of rows after each image. ``check`` is called about once a second; an exception
    from it ends the call. Both run in this process, so they work only on engines that run here.
    Raise EngineError for a memory:/// store, or when crop processes cannot run at all.
    """
    if job.store.scheme == "memory":
        raise EngineError(
            "memory:/// exists in one process only, and other processes store the crops: use file:/// or s3://"
        )

    def transform(tables: Iterable[pa.Table]) -> Iterable[pa.Table]:
        images = _Images(read_images(tables), job.pictures.max_boxes, on_image or _no_progress)
        ended: list[Ended] = []
        for position, outcome in _outcomes(job, images.works(), check):
            images.end(position, outcome)
            ended.extend(images.take())
            if sum(len(image.outcome.crops) for image in ended) >= ROWS_A_TABLE:
                yield crop_rows(ended, job.columns)
                ended = []
        yield crop_rows([*ended, *images.take()], job.columns)

    return transform


def _no_progress(_rows: int) -> None:
    """No-op callback."""


class _Images:
    """The images of one call. The pool pulls them as it needs work; they are returned in input order."""

    def __init__(
        self, rows: Iterator[tuple[dict[str, Any], ImageWork]], max_boxes: int, on_image: Callable[[int], None]
    ) -> None:
        self._rows, self._max_boxes, self._on_image = rows, max_boxes, on_image
        self._count = 0
        self._next = 0
        self._numbers: list[int] = []  # image numbers, by the pool's positions
        self._images: dict[int, dict[str, Any]] = {}
        self._outcomes: dict[int, ImageOutcome] = {}

    def works(self) -> Iterator[ImageWork]:
        """Yield the work for the pool. Images without boxes, or with too many, never reach the pool."""
        for image, work in self._rows:
            if not work.crops:
                continue
            number = self._count
            self._count += 1
            self._images[number] = image
            if len(work.boxes) > self._max_boxes:
                failure = PhotoFailure("too_many_boxes", f"{len(work.boxes)} boxes")
                self._end(number, failed_photo(work, failure))
            else:
                self._numbers.append(number)
                yield work

    def end(self, position: int, outcome: ImageOutcome) -> None:
        """Record the outcome of the pool's image at this position."""
        self._end(self._numbers[position], outcome)

    def take(self) -> Iterator[Ended]:
        """Yield finished images in input order, up to the first unfinished one."""
        while self._next in self._outcomes:
            yield Ended(self._images.pop(self._next), self._outcomes.pop(self._next))
            self._next += 1

    def _end(self, number: int, outcome: ImageOutcome) -> None:
        self._outcomes[number] = outcome
        self._on_image(len(outcome.crops))


def warm(job: CropJob, images: int) -> None:
    """Start the crop processes of a batch that comes soon, one for each of its images at most. Does not wait for them."""
    assignment, size = _assignment(job)
    pool = borrow_pool(assignment, size)
    pool.start(images)
    return_pool(assignment, size, pool)


def _assignment(job: CropJob) -> tuple[Assignment, int]:
    """Return what the job's processes get, and how many there are."""
    size = job.processes or usable_cores()
    # Each process has a connection of its own.
    return Assignment(job.store, job.fetch, job.pictures, job.packed), min(size, job.fetch.connections_per_host or size)


def _outcomes(
    job: CropJob, works: Iterator[ImageWork], check: Callable[[], None] | None
) -> Iterator[tuple[int, ImageOutcome]]:
    assignment, size = _assignment(job)
    pool = borrow_pool(assignment, size)
    try:
        yield from pool.run(works, job.batch, check)
    except BaseException:
        # Close the pool also when the consumer stops early: it still has photos in progress.
        pool.close()
        raise
    return_pool(assignment, size, pool)

"""Cuts photos by two recipes. Each photo is fetched once, before the clock runs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from cropline.core.failures import PhotoFailure
from cropline.core.schemas import IMAGES
from fugue_jobs.fetching.fetch import Fetcher
from fugue_jobs.pool.assignment import Assignment
from fugue_jobs.pool.crop_pool import CropPool, usable_cores
from fugue_jobs.rows import read_images
from fugue_jobs.work import CropOutcome, ImageOutcome, ImageWork, failed_photo

if TYPE_CHECKING:
    from cropline.config.settings import Settings

# Photos that are in memory at once.
_AT_ONCE = 16
_FETCHERS = 8


class Pair(NamedTuple):
    """One box of one photo, cut by both recipes."""

    image: dict[str, Any]  # the row of schemas.IMAGES
    box_index: int
    current: CropOutcome
    tried: CropOutcome


@dataclass
class Spent:
    """Core seconds in crop processes, without fetching."""

    current: float = 0.0
    tried: float = 0.0


def run_trial(images: Sequence[dict[str, Any]], settings: Settings, spent: Spent) -> Iterator[Pair]:
    """Yield every box of the images (schemas.IMAGES), cut by their two work items: the current recipe, then the other.

    ``spent`` is increased as it goes. A photo that cannot be fetched fails for both. Nothing is stored.
    Raise EngineError when a step cannot be loaded, or when crop processes cannot run at all.
    """
    table = pa.Table.from_pylist(list(images), schema=IMAGES)
    assignment = Assignment(None, settings.fetch.options, settings.pictures.options)
    size = settings.engine.processes or usable_cores()
    pool = CropPool(assignment, size)
    warm = False
    try:
        with (
            Fetcher(settings.fetch.options, settings.storage.spec) as fetcher,
            ThreadPoolExecutor(_FETCHERS, thread_name_prefix="trial") as threads,
        ):
            rows = read_images([table])
            while part := list(itertools.islice(rows, _AT_ONCE)):
                fetched = list(threads.map(lambda each: _fetched(fetcher, each[1], settings), part))
                works = [work for work in fetched if isinstance(work, ImageWork)]
                if works and not warm:
                    # The first call starts processes and loads models.
                    _cut(pool, [works[0]], 0, size)
                    _cut(pool, [works[0]], 1, size)
                    warm = True
                current, seconds = _cut(pool, works, 0, size)
                spent.current += seconds
                tried, seconds = _cut(pool, works, 1, size)
                spent.tried += seconds
                yield from _pairs(part, fetched, iter(current), iter(tried))
    finally:
        pool.close()


def _fetched(fetcher: Fetcher, work: ImageWork, settings: Settings) -> ImageWork | PhotoFailure:
    if len(work.boxes) > settings.pictures.max_boxes:
        return PhotoFailure("too_many_boxes", f"{len(work.boxes)} boxes")
    try:
        photo = fetcher.fetch(work.url, expected_bytes=work.expected_bytes, expected_sha256=work.expected_sha256)
    except PhotoFailure as failure:
        return failure
    return work._replace(data=photo.data)


def _cut(pool: CropPool, works: Sequence[ImageWork], order: int, size: int) -> tuple[list[ImageOutcome], float]:
    """Return the outcomes in the order of the works, and the core seconds."""
    one = [work._replace(orders=(work.orders[order],)) for work in works]
    started = time.monotonic()
    found = dict(pool.run(one))
    seconds = (time.monotonic() - started) * min(size, max(1, len(one)))
    return [found[position] for position in range(len(one))], seconds


def _pairs(
    part: Iterable[tuple[dict[str, Any], ImageWork]],
    fetched: Iterable[ImageWork | PhotoFailure],
    current: Iterator[ImageOutcome],
    tried: Iterator[ImageOutcome],
) -> Iterator[Pair]:
    for (image, work), got in zip(part, fetched, strict=True):
        if isinstance(got, PhotoFailure):
            before = after = failed_photo(work._replace(orders=work.orders[:1]), got)
        else:
            before, after = next(current), next(tried)
        after_by_box = {crop.box_index: crop for crop in after.crops}
        for crop in before.crops:
            yield Pair(image, crop.box_index, crop, after_by_box[crop.box_index])

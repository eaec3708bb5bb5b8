"""Sends rows through the crop processes and collects results. Each image is fetched and decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cropline.core.errors import EngineError
from cropline.core.failures import PhotoFailure
from fugue_jobs.frame.results import Results
from fugue_jobs.frame.rows import Rows, is_path
from fugue_jobs.pool.applying import sent_row
from fugue_jobs.pool.assignment import Assignment
from fugue_jobs.pool.crop_pool import usable_cores
from fugue_jobs.pool.idle_pools import borrow_pool, return_pool
from fugue_jobs.work import Box, CropOutcome, ImageWork, Order, failed_photo

if TYPE_CHECKING:
    from fugue_jobs.frame.options import Options
    from fugue_jobs.frame.rows import Ints

PROFILE = "frame"

Emit = Callable[[int], None]


def cut_rows(rows: Rows, options: Options, processes: int, tell: Emit | None = None) -> Results:
    """Return the crop of every row. ``tell`` is called with the number of finished rows after each image.

    A row that cannot be cut gets a reason. Raise EngineError when crop processes cannot run at all.
    """
    results = Results(len(rows), options)
    ended = 0
    for group, crops in _outcomes(rows, options, processes):
        for crop in crops:
            results.put(int(group[crop.box_index]), crop)
        ended += len(group)
        if tell is not None:
            tell(ended)
    if results.lost:
        raise EngineError(f"{results.lost} rows have no result: this is a bug in cropline")
    return results


def _outcomes(rows: Rows, options: Options, processes: int) -> Iterator[tuple[Ints, list[CropOutcome]]]:
    assignment = Assignment(options.store, options.fetch, options.pictures, (), options.functions, options.files)
    groups: list[Ints] = []
    refused: list[tuple[Ints, list[CropOutcome]]] = []

    def works() -> Iterator[ImageWork]:
        for group in rows.groups():
            work = _work(rows, group, options)
            failure = _refusal(work, options)
            if failure is not None:
                refused.append((group, failed_photo(work, failure).crops))
            else:
                groups.append(group)
                yield work

    size = processes or options.processes or usable_cores()
    pool = borrow_pool(assignment, size)
    try:
        for number, outcome in pool.run(works()):
            yield groups[number], outcome.crops
            yield from refused
            refused.clear()
    except BaseException:
        # Close the pool also when the consumer stops early: it still has images in progress.
        pool.close()
        raise
    return_pool(assignment, size, pool)
    yield from refused


def _work(rows: Rows, group: Ints, options: Options) -> ImageWork:
    image = rows.image(int(group[0]))
    boxes = tuple(
        Box(None, edges[0], edges[1], edges[2], edges[3], rows.label(row))
        for row, edges in zip(group.tolist(), rows.edges[group].tolist(), strict=True)
    )
    return ImageWork(
        source="",
        image_id="",
        url=image if isinstance(image, str) and not is_path(image) else "",
        expected_bytes=None,
        expected_sha256=None,
        coordinates="pixels" if options.units == "pixels" else "normalised",
        orientation="upright",
        boxes=boxes,
        orders=(Order(PROFILE, options.profile.hash, options.profile.recipe),),
        data=image if isinstance(image, bytes) else None,
        path=image if isinstance(image, str) and is_path(image) else None,
        rows=tuple(map(sent_row, rows.facts(group))) if options.profile.steps else (),
    )


def _refusal(work: ImageWork, options: Options) -> PhotoFailure | None:
    if work.data is None and work.path is None and not work.url:
        return PhotoFailure("bad_url", "the row has no image: its value is neither text nor bytes")
    if len(work.boxes) > options.pictures.max_boxes:
        return PhotoFailure("too_many_boxes", f"{len(work.boxes)} boxes")
    return None

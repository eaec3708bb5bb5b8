"""Estimates time, calls, bytes and PUTs of work items, from the speed of the latest batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cropline.backfill.plan import Slice
from cropline.state import BatchState

# Measured on 2 cores with photos of 9 MP and 37 boxes. Used only while there are no batches to measure.
_IMAGES_PER_S = 8.0
# The catalogue's data file and log entry.
_PUTS_A_COMMIT = 2


@dataclass(frozen=True)
class Cost:
    """The cost of a plan's slices."""

    images: int
    work_items: int
    crops: int
    batches: int
    seconds: float
    basis: str  # what the estimate of the time is based on
    calls: int  # to the listing; planning has made them already
    downloads: int
    bytes: int
    puts: int  # crops, catalogue files and, with the API, one manifest per batch


def cost_of(slices: Sequence[Slice], last: Sequence[BatchState], *, calls: int, lands: bool, at_once: int) -> Cost:
    """``last``: the state's latest batches. ``lands``: each slice lands a manifest. ``at_once``: parallel batches."""
    images = sum(part.count for part in slices)
    crops = sum(part.puts for part in slices)
    rate, basis = _speed(last)
    return Cost(
        images=images,
        work_items=sum(len(part.work_items) for part in slices),
        crops=crops,
        batches=len(slices),
        seconds=images / rate,
        basis=basis if at_once == 1 else f"{basis}; {at_once} at once may be faster",
        calls=calls,
        downloads=images,
        bytes=sum(part.bytes for part in slices),
        puts=crops + len(slices) * (_PUTS_A_COMMIT + int(lands)),
    )


def _speed(last: Sequence[BatchState]) -> tuple[float, str]:
    """Return images per second of the batches that needed one attempt, and the basis of that figure."""
    timed = [
        (batch.images, (batch.committed_at - batch.created_at).total_seconds())
        for batch in last
        if batch.committed_at is not None and batch.attempt == 1 and batch.images
    ]
    seconds = sum(spent for _, spent in timed)
    if seconds <= 0:
        return _IMAGES_PER_S, f"assuming {_IMAGES_PER_S:g} images/s: there is no finished batch to measure"
    rate = sum(images for images, _ in timed) / seconds
    return rate, f"{rate:,.1f} images/s, measured over the latest {sum(images for images, _ in timed):,} images"

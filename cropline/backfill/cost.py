"""What works will take: time, calls, bytes and PUTs, from the numbers of the last batches.

Belongs here: arithmetic. Does not: promises; the report calls it an estimate and says what it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cropline.backfill.plan import Slice
from cropline.state import BatchState

# Measured on 2 cores with photos of 9 MP and 37 boxes; replaced by the own batches' speed as soon as there are some.
_IMAGES_PER_S = 8.0
# Of the catalogue for each batch: a data file and a log entry.
_PUTS_A_COMMIT = 2


@dataclass(frozen=True)
class Cost:
    """What the slices of a plan come to."""

    images: int
    work_items: int
    crops: int
    batches: int
    seconds: float
    basis: str  # what the time rests on
    calls: int  # of the listing, already made by planning
    downloads: int
    bytes: int
    puts: int  # crops, catalogue files and, from the API, one manifest a batch


def cost_of(slices: Sequence[Slice], last: Sequence[BatchState], *, calls: int, lands: bool, at_once: int) -> Cost:
    """``last``: the state's last batches; ``lands``: each slice brings a manifest; ``at_once``: batches under way."""
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
    """Images a second of the batches that one attempt finished."""
    timed = [
        (batch.images, (batch.committed_at - batch.created_at).total_seconds())
        for batch in last
        if batch.committed_at is not None and batch.attempt == 1 and batch.images
    ]
    seconds = sum(spent for _, spent in timed)
    if seconds <= 0:
        return _IMAGES_PER_S, f"no batch has been done yet: {_IMAGES_PER_S:g} images/s are assumed"
    rate = sum(images for images, _ in timed) / seconds
    return rate, f"{rate:,.1f} images/s lately, measured over {sum(images for images, _ in timed):,} images"

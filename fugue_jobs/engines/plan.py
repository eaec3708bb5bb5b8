"""Plans a batch: its estimated cost, its number of parts, and whether it is worth a cluster.

docs/decisions/0007-engines.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.config.engine import AutoSettings, SparkSettings

# CPU seconds of one core, for photos of 2.6 MB (9 to 11 MP): 43 ms with 37 boxes. `make bench ONLY=budget` has the stages: a
# byte is fetched, hashed and walked over; a crop is decoded, encoded, measured and stored.
_IMAGE_S = 0.002
_BYTE_S = 4.5e-9
_CROP_S = 0.0008
_UNKNOWN_BYTES = 2_600_000
# Long enough to hide a task's start of 0.1 s. Short enough that new executors find work and that a
# lost one costs little.
PARTITION_S = 4.0
_MOST_PARTITIONS = 10_000
# Crop rows that a cluster returns at a time, some 70 MB: a driver's JVM or a Connect server holds them all.
PIECE_CROPS = 100_000


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a batch."""

    images: int
    crops: int  # boxes times profiles
    core_s: float  # estimated CPU time of one core


def cost(counts: pa.Table, claimed: pa.Table) -> Cost:
    """Return the cost of the claimed images, by their bytes and crops. counts: manifests.COUNTS."""
    crops, seconds = 0, 0.0
    for size, pieces in _sizes(counts, claimed):
        crops += pieces
        if pieces:
            seconds += _IMAGE_S + _BYTE_S * min(size or _UNKNOWN_BYTES, 100_000_000) + _CROP_S * pieces
    return Cost(claimed.num_rows, crops, seconds)


def pieces(counts: pa.Table, claimed: pa.Table, most_crops: int = PIECE_CROPS) -> list[pa.Table]:
    """Return the claims in tables of at most so many crops; an image with more is alone. At least one table."""
    edges, crops = [0], 0
    for row, (_, more) in enumerate(_sizes(counts, claimed)):
        if crops and crops + more > most_crops:
            edges.append(row)
            crops = 0
        crops += more
    edges.append(claimed.num_rows)
    return [claimed.slice(first, end - first) for first, end in pairwise(edges)]


def _sizes(counts: pa.Table, claimed: pa.Table) -> Iterator[tuple[int | None, int]]:
    """Yield (bytes, crops) of each claimed image. Boxes that are not to be cut count too."""
    import pyarrow.compute as pc

    known = {(row["manifest"], row["manifest_row"]): (row["bytes"], row["boxes"]) for row in counts.to_pylist()}
    # The number of profiles is enough: the recipes are not needed here.
    profiles = pc.fill_null(pc.list_value_length(claimed["work"]), 0)
    for row in claimed.select(["manifest", "manifest_row"]).append_column("profiles", profiles).to_pylist():
        size, boxes = known[row["manifest"], row["manifest_row"]]
        yield size, boxes * row["profiles"]


def partitions(batch: Cost, wanted: int) -> int:
    """Return the number of parts, at least 1: ``wanted`` unless it is 0, else by PARTITION_S, at most one per image."""
    planned: int = wanted or ceil(batch.core_s / PARTITION_S)
    return max(1, min(planned, max(1, batch.images), _MOST_PARTITIONS))


def most_executors(batch: Cost, waiting: int, settings: SparkSettings) -> int:
    """Return the maximum of executors: the setting, else enough to finish everything in ``catch_up_s``, at least 1.

    waiting: other images that wait. They are assumed to cost as much as the batch's.
    """
    if settings.max_executors:
        return settings.max_executors
    whole = batch.core_s * (1 + waiting / max(1, batch.images))
    cores = ceil(whole / settings.catch_up_s)
    return max(1, settings.min_executors, ceil(cores / settings.executor_cores))


def choose(batch: Cost, waiting: int, settings: AutoSettings) -> tuple[str, str]:
    """Return (kind, reason) for kind=auto. waiting: other images that wait."""
    images = batch.images + waiting
    if images > settings.images:
        return settings.burst, f"burst: {images:,} images wait, more than {settings.images:,}"
    if batch.crops > settings.boxes:
        return settings.burst, f"burst: {batch.crops:,} boxes in the batch, more than {settings.boxes:,}"
    return "native", f"small: {images:,} images wait, at most {settings.images:,} are cut in process"

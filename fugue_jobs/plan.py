"""How a batch is laid out: what it will cost, into how many parts it goes, whether it is worth a cluster.

Belongs here: arithmetic about a batch. Does not: engines (engines.py). Figures are from docs/decisions/0007-engines.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.engine_settings import AutoSettings, SparkSettings

# CPU seconds of one core, measured on photos of 2.6 MB (9 to 11 MP) with 37 boxes. Ratios matter more than values.
_IMAGE_S = 0.01
_BYTE_S = 27e-9
_CROP_S = 0.0022
_UNKNOWN_BYTES = 2_600_000
# Long enough that a task's own 0.1 s does not count, short enough that new executors find work and a lost one costs little.
PARTITION_S = 4.0
_MOST_PARTITIONS = 10_000


@dataclass(frozen=True)
class Cost:
    """What a batch asks for."""

    images: int
    crops: int  # boxes times profiles
    core_s: float  # estimated CPU time of one core


def cost(images: pa.Table, claimed: pa.Table) -> Cost:
    """The cost of the claimed images: by their bytes and crops, not by their number."""
    known = {
        (row["manifest"], row["manifest_row"]): (row["bytes"], row["boxes"])
        for row in _counted(images, ("manifest", "manifest_row", "bytes"), "boxes")
    }
    crops, seconds = 0, 0.0
    for row in _counted(claimed, ("manifest", "manifest_row"), "work"):
        size, boxes = known[row["manifest"], row["manifest_row"]]
        pieces = boxes * row["work"]
        crops += pieces
        if pieces:
            seconds += _IMAGE_S + _BYTE_S * min(size or _UNKNOWN_BYTES, 100_000_000) + _CROP_S * pieces
    return Cost(claimed.num_rows, crops, seconds)


def _counted(table: pa.Table, names: tuple[str, ...], nested: str) -> list[dict[str, int]]:
    """Rows with the length of a nested column in its place: nobody needs the boxes themselves as Python objects."""
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(table[nested]), 0)
    rows: list[dict[str, int]] = table.select(list(names)).append_column(nested, lengths).to_pylist()
    return rows


def partitions(batch: Cost, wanted: int) -> int:
    """How many parts, at least 1: ``wanted`` when it is not 0, else parts of PARTITION_S, never more than images."""
    planned: int = wanted or ceil(batch.core_s / PARTITION_S)
    return max(1, min(planned, max(1, batch.images), _MOST_PARTITIONS))


def most_executors(batch: Cost, waiting: int, settings: SparkSettings) -> int:
    """The upper bound of executors: the setting, else as many as work off all that waits in ``catch_up_s``, at least 1.

    waiting: images that wait beside the batch; they are taken to be like the batch's.
    """
    if settings.max_executors:
        return settings.max_executors
    whole = batch.core_s * (1 + waiting / max(1, batch.images))
    cores = ceil(whole / settings.catch_up_s)
    return max(1, settings.min_executors, ceil(cores / settings.executor_cores))


def choose(batch: Cost, waiting: int, settings: AutoSettings) -> tuple[str, str]:
    """(kind, reason) for kind=auto. waiting: images that wait beside the batch."""
    images = batch.images + waiting
    if images > settings.images:
        return settings.burst, f"burst: {images:,} images wait, more than {settings.images:,}"
    if batch.crops > settings.boxes:
        return settings.burst, f"burst: {batch.crops:,} boxes in the batch, more than {settings.boxes:,}"
    return "native", f"small: {images:,} images wait, at most {settings.images:,} are cut in process"

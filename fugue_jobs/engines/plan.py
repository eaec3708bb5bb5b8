"""Plans a batch: its estimated cost, its number of parts, and whether it is worth a cluster.

docs/decisions/0007-engines.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from math import ceil
from typing import TYPE_CHECKING

from fugue_jobs.imaging.encode_cost import encode_s

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.config.engine import AutoSettings, SparkSettings

# CPU seconds of one core, for photos of 2.6 MB (9 to 11 MP): 43 ms with 37 boxes. `make bench ONLY=budget` has the stages: a
# byte is fetched, hashed and walked over; a crop is decoded, measured and stored, and encoded besides.
_IMAGE_S = 0.002
_BYTE_S = 4.5e-9
_CROP_S = 0.0006
_COPIED_S = 0.00025  # a crop that is neither decoded nor encoded
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
    """Return the cost of the claimed images, by their bytes, boxes and recipes. counts: manifests.COUNTS."""
    crops, seconds = 0, 0.0
    for (size, boxes, profiles), box_s in zip(_sizes(counts, claimed), _box_seconds(claimed), strict=True):
        crops += boxes * profiles
        if boxes * profiles:
            seconds += _IMAGE_S + _BYTE_S * min(size or _UNKNOWN_BYTES, 100_000_000) + box_s * boxes
    return Cost(claimed.num_rows, crops, seconds)


def _box_seconds(claimed: pa.Table) -> Iterator[float]:
    """Yield for each claimed image the CPU seconds of one box by all of its profiles."""
    import pyarrow.compute as pc

    recipes = iter(pc.struct_field(pc.list_flatten(claimed["work"]), "recipe").to_pylist())
    for profiles in pc.fill_null(pc.list_value_length(claimed["work"]), 0).to_pylist():
        yield sum(_crop_s(recipe) for recipe in islice(recipes, profiles))


@lru_cache(maxsize=256)
def _crop_s(recipe: str) -> float:
    """Return the CPU seconds of a crop by this recipe. One that cannot be read has no crops, and may cost anything."""
    try:
        # Not read_recipe: this process does not need Pillow.
        fields = json.loads(recipe)
        kind, lossless = fields["format"], fields["lossless"]
        if kind == "jpeg" and lossless:
            return _COPIED_S
        return _CROP_S + encode_s(kind, fields.get("effort"), lossless=lossless)
    except (ValueError, TypeError, KeyError):
        return _CROP_S


def pieces(counts: pa.Table, claimed: pa.Table, most_crops: int = PIECE_CROPS) -> list[pa.Table]:
    """Return the claims in tables of at most so many crops; an image with more is alone. At least one table."""
    edges, crops = [0], 0
    for row, (_, boxes, profiles) in enumerate(_sizes(counts, claimed)):
        more = boxes * profiles
        if crops and crops + more > most_crops:
            edges.append(row)
            crops = 0
        crops += more
    edges.append(claimed.num_rows)
    return [claimed.slice(first, end - first) for first, end in pairwise(edges)]


def _sizes(counts: pa.Table, claimed: pa.Table) -> Iterator[tuple[int | None, int, int]]:
    """Yield (bytes, boxes, profiles) of each claimed image. Boxes that are not to be cut count too."""
    import pyarrow.compute as pc

    known = {(row["manifest"], row["manifest_row"]): (row["bytes"], row["boxes"]) for row in counts.to_pylist()}
    # The recipes are not needed here.
    profiles = pc.fill_null(pc.list_value_length(claimed["work"]), 0)
    for row in claimed.select(["manifest", "manifest_row"]).append_column("profiles", profiles).to_pylist():
        size, boxes = known[row["manifest"], row["manifest_row"]]
        yield size, boxes, row["profiles"]


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

"""Counts over the columns of a manifest for OpenLineage's dataQualityMetrics facet. Numbers only: no value leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_DISTINCT_LIMIT = ("image_id", "version", "store_id", "camera_id", "sha256", "url")
_MEASURED = ("width", "height", "bytes")
_PRESENT = ("captured_at", "updated_at")

Metrics = dict[str, dict[str, int | float]]


def column_metrics(manifest: pa.Table) -> Metrics:
    """Column -> its metrics. ``boxes`` counts the boxes of an image; its sum is the number of all boxes."""
    import pyarrow.compute as pc

    found: Metrics = {}
    for name in (*_DISTINCT_LIMIT, *_PRESENT):
        found[name] = {"nullCount": manifest[name].null_count}
    for name in _DISTINCT_LIMIT:
        found[name]["distinctCount"] = pc.count_distinct(manifest[name], mode="only_valid").as_py()
    for name in _MEASURED:
        found[name] = _numbers(manifest[name])
    found["boxes"] = _numbers(pc.list_value_length(manifest["boxes"]))
    return found


def _numbers(column: pa.ChunkedArray) -> dict[str, int | float]:
    """``count`` counts the values that are not null. Without any, there is no minimum and no maximum."""
    import pyarrow as pa
    import pyarrow.compute as pc

    extremes = pc.min_max(column).as_py()
    # In floating point: declared sizes are any numbers, and their sum may not fit.
    total = pc.sum(column.cast(pa.float64(), safe=False)).as_py()
    known = {"min": extremes["min"], "max": extremes["max"], "sum": total}
    counts = {"nullCount": column.null_count, "count": len(column) - column.null_count}
    return {**counts, **{name: value for name, value in known.items() if value is not None}}

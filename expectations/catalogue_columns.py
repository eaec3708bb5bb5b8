"""The columns that the catalogue's rules check: a batch as flat int64 frames of counts and flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from expectations.objects import StoredObject

_WORK = ["source", "image_id", "profile"]
_WRITTEN = ["key", "bytes", "sha256", "width", "height", "format"]
_REGION = ["left", "top", "right", "bottom", "image_width", "image_height", "width", "height"]


def work_frame(crops: pa.Table, claimed: pa.Table) -> pd.DataFrame:
    """One row per work item, claimed ones first and in order: how many boxes have no row, and how many rows no box."""
    import pandas as pd

    rows = crops.select(_WORK).to_pandas().groupby(_WORK, sort=False).size().rename("rows").reset_index()
    works = claimed.to_pandas().assign(at=np.arange(len(claimed))).merge(rows, on=_WORK, how="outer")
    works = works.sort_values("at", na_position="last", kind="stable")
    missing = (works["boxes"].fillna(0) - works["rows"].fillna(0)).astype("int64").to_numpy()
    return pd.DataFrame(
        {"row": np.arange(len(works)), "boxes_lost": missing.clip(min=0), "boxes_invented": (-missing).clip(min=0)}
    )


def crop_frame(crops: pa.Table) -> pd.DataFrame:
    """One row per crop row, in order."""
    import pandas as pd

    names = [*_WORK, "box_index", "status", *_WRITTEN, *_REGION[:6], "box_left", "box_top"]
    table = crops.select(names).to_pandas()
    written = table["status"] == "written"
    return pd.DataFrame(
        {
            "row": np.arange(len(table)),
            "status": table["status"].fillna("(none)").astype("category"),
            "box_repeated": _flags(table.duplicated([*_WORK, "box_index"])),
            "key_repeated": _flags(table["key"].notna() & table.duplicated("key")),
            "written_lacking": _flags(written & table[_WRITTEN].isna().any(axis=1)),
            "unwritten_with_key": _flags(~written & table["key"].notna()),
            "region_outside": _flags(written & ~_inside(table)),
            "size_differs": _flags(written & ~_size_matches(table)),
        }
    )


def unwritten_frame(crops: pa.Table) -> pd.DataFrame:
    """One row per crop row that is not written, with its position: only these need a reason."""
    import pandas as pd

    table = crops.select(["status", "reason"]).to_pandas()
    reason = table["reason"][table["status"] != "written"]
    return pd.DataFrame({"row": reason.index.to_numpy(), "reason": reason.to_numpy()})


def object_frame(crops: pa.Table, objects: Mapping[str, StoredObject | None]) -> pd.DataFrame:
    """One row per crop row whose object was read, with the crop row's position."""
    import pandas as pd

    sampled = [
        (row, objects[key], size, sha256)
        for row, (key, size, sha256) in enumerate(
            zip(*(crops[name].to_pylist() for name in ("key", "bytes", "sha256")), strict=True)
        )
        if key in objects
    ]
    return pd.DataFrame(
        {
            "row": pd.Series([row for row, *_ in sampled], dtype="int64"),
            "missing": pd.Series([int(found is None) for _, found, _, _ in sampled], dtype="int64"),
            "size_differs": pd.Series(
                [int(found is not None and found.bytes != size) for _, found, size, _ in sampled], dtype="int64"
            ),
            "hash_differs": pd.Series(
                [int(found is not None and found.sha256 != sha256) for _, found, _, sha256 in sampled], dtype="int64"
            ),
        }
    )


def _inside(table: pd.DataFrame) -> pd.Series[bool]:
    left, top, right, bottom, width, height = (table[name] for name in _REGION[:6])
    return (left >= 0) & (top >= 0) & (left < right) & (top < bottom) & (right <= width) & (bottom <= height)


def _size_matches(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether the crop has its region's size, contains it at its place, or is shrunk in proportion, rounded to a pixel."""
    across, down = table["right"] - table["left"], table["bottom"] - table["top"]
    width, height = table["width"], table["height"]
    same = (width == across) & (height == down)
    scale = np.maximum(width, height) / np.maximum(across, down)
    rounding = ((width - across * scale).abs() <= 0.5) | (width == 1)
    rounding &= ((height - down * scale).abs() <= 0.5) | (height == 1)
    left, top = table["box_left"], table["box_top"]
    contains = (left >= 0) & (top >= 0) & (left + across <= width) & (top + down <= height)
    return same | ((scale < 1) & rounding) | contains


def _flags(values: pd.Series[bool]) -> npt.NDArray[np.int64]:
    return np.asarray(values, dtype=np.int64)

"""Finds photos that were sent again under another id, re-encoded or re-scaled, by their perceptual hash.

A photo is compared only with photos of the same camera. When nothing moves in front of a camera, it is not judged,
because its pictures cannot be distinguished from repeats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cropline.core.keys import safe_name
from cropline.core.phash import CELLS, LETTERS, UNKNOWN
from drift import baseline_files
from drift.baseline import CAMERA
from drift.baseline_files import CorruptFile
from drift.detect import Drift, baseline_reset

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from cropline.core.store_spec import StoreSpec

    Cells = npt.NDArray[np.float64]

KEEP_PHOTOS = 20_000
KEEP_OF_CAMERA = 1_000
_AT_ONCE = 256  # photos compared with all earlier ones at a time: a batch may hold twenty thousand of one camera
_HASH = f"^[{re.escape(LETTERS + UNKNOWN)}]{{{CELLS**2}}}$"

PHOTOS = pa.schema(
    [
        ("store_id", pa.string()),
        ("camera_id", pa.string()),
        ("image_id", pa.string()),
        ("captured_at", pa.string()),
        ("image_phash", pa.string()),
        ("like", pa.string()),  # id of an earlier photo that looks the same, or null
    ]
)


@dataclass(frozen=True)
class Limits:
    """When two photos are the same.

    Measured on the demo's photos: the same photo at quality 60 and a quarter of its size has a distance of at
    most 4.2; the next frame of a burst has at least 5.5.
    """

    distance: float = 4.8  # luma, 0..255
    cells: int = 32  # cells known in both photos; fewer are no evidence
    share: float = 0.8  # of the known cells of the photo that has fewer
    contrast: float = 10.0  # standard deviation of a photo's cells; blank and dark photos all look the same
    photos: int = 5  # of a camera; fewer do not show whether anything moves in front of it
    still: float = 0.5  # nothing moves in front of a camera when a larger share of its photos look like earlier ones


def check_photos(spec: StoreSpec, source: str, crops: pa.Table) -> list[Drift]:
    """Compare a batch's photos with the stored ones of the source, and store them too. Raise StorageError.

    ``crops``: rows as the job returns them, or as the catalogue has them. When two batches end at the same time, the
    photos of one may be lost.
    """
    kept = baseline_files.read(spec, _key(source), PHOTOS, _check)
    known = kept if isinstance(kept, pa.Table) else PHOTOS.empty_table()
    both = find_near_duplicates(_photos(crops), known)
    if len(both) > len(known):
        _write(spec, source, both)
    corrupt = [baseline_reset(kept)] if isinstance(kept, CorruptFile) else []
    return [*corrupt, *_warnings(both, len(known))]


def find_near_duplicates(new: pa.Table, known: pa.Table, limits: Limits | None = None) -> pd.DataFrame:
    """Return both (PHOTOS), newest last, with ``like`` set in the new ones.

    Photos that are known already do not change.
    """
    limits = limits or Limits()
    new = new.filter(pc.invert(pc.is_in(new["image_id"], known["image_id"].combine_chunks())))
    both: pd.DataFrame = pa.concat_tables([known, new]).to_pandas()
    both["like"] = both["like"].astype(object)
    for _, rows in both.groupby(CAMERA, sort=True):
        first = int((rows.index < len(known)).sum())
        for position, other in _nearest(rows["image_phash"].tolist(), first, limits):
            both.loc[rows.index[position], "like"] = rows["image_id"].iloc[other]
    return both


def _nearest(hashes: list[str], first: int, limits: Limits) -> Iterator[tuple[int, int]]:
    """Yield (position, position of the nearest earlier near-duplicate) for the hashes from ``first`` on."""
    if first == len(hashes):
        return
    luma, known = _cells(hashes)
    count = known.sum(axis=1)
    mean = luma.sum(axis=1) / np.maximum(count, 1)
    contrast = np.sqrt(np.maximum((luma**2).sum(axis=1) / np.maximum(count, 1) - mean**2, 0))
    for start in range(first, len(hashes), _AT_ONCE):
        end = min(start + _AT_ONCE, len(hashes))
        distance = _distances(luma[:end], known[:end], start, limits)
        distance[contrast[start:end] < limits.contrast] = np.inf
        nearest = distance.argmin(axis=1)
        for row, other in enumerate(nearest):
            if distance[row, other] <= limits.distance:
                yield start + row, int(other)


def _distances(luma: Cells, known: Cells, first: int, limits: Limits) -> Cells:
    """Return the distance of each photo from ``first`` on to each earlier one; infinite where it is unknown.

    The distance is the root mean square of the differences in the cells that are known in both.
    """
    count = known.sum(axis=1)
    common = known[first:] @ known.T
    # Sum of squared differences over the cells that are known in both, for all pairs at once: a^2 + b^2 - 2ab.
    apart = luma[first:] ** 2 @ known.T + known[first:] @ (luma**2).T - 2 * luma[first:] @ luma.T
    distance: Cells = np.sqrt(np.maximum(apart, 0) / np.maximum(common, 1))
    distance[(common < limits.cells) | (common < limits.share * np.minimum(count[first:, None], count))] = np.inf
    distance[np.arange(len(luma))[None, :] >= np.arange(first, len(luma))[:, None]] = np.inf
    return distance


def _cells(hashes: list[str]) -> tuple[Cells, Cells]:
    """Return (luma - 128 or 0, 1.0 where the luma is known): one row per hash, one column per cell."""
    values = np.full(256, np.nan)
    values[[ord(letter) for letter in LETTERS]] = (np.arange(len(LETTERS)) + 0.5) * 256 / len(LETTERS) - 128
    cells = values[np.frombuffer("".join(hashes).encode("latin-1"), np.uint8)].reshape(len(hashes), -1)
    return np.nan_to_num(cells), (~np.isnan(cells)).astype(float)


def _warnings(both: pd.DataFrame, known: int, limits: Limits | None = None) -> list[Drift]:
    limits = limits or Limits()
    found = []
    for _, mine in both.groupby(CAMERA, sort=True):
        duplicates = mine[(mine.index >= known) & mine["like"].notna()]
        if not len(duplicates) or len(mine) < limits.photos or mine["like"].notna().mean() > limits.still:
            continue
        text = f"{len(duplicates)} photos look like earlier ones with other ids: sent again, perhaps re-encoded"
        example = duplicates.iloc[0]
        evidence: dict[str, float | str] = {
            "photos": float(len(duplicates)),
            "of_photos": float(len(mine)),
            "image_id": str(example["image_id"]),
            "like": str(example["like"]),
            "captured_at": str(example["captured_at"]),
        }
        found.append(Drift("near_duplicate", str(example["store_id"]), str(example["camera_id"]), text, evidence))
    return found


def _photos(crops: pa.Table) -> pa.Table:
    """Return the batch's photos that have a hash."""
    rows = crops.select([name for name in PHOTOS.names if name != "like"])
    if pa.types.is_timestamp(rows.schema.field("captured_at").type):  # the catalogue has a timestamp, the job a text
        texts = [moment and moment.isoformat() for moment in rows["captured_at"].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index("captured_at"), "captured_at", pa.array(texts, pa.string()))
    rows = rows.filter(pc.match_substring_regex(rows["image_phash"], _HASH))
    frame = rows.to_pandas().drop_duplicates("image_id").fillna({"store_id": "", "camera_id": ""})
    return pa.Table.from_pandas(frame.assign(like=None), schema=PHOTOS, preserve_index=False).replace_schema_metadata(
        None
    )


def _check(photos: pa.Table) -> None:
    if any(photos[name].null_count for name in (*CAMERA, "image_id", "image_phash")):
        raise ValueError("photos without camera, id or hash")
    if not pc.all(pc.match_substring_regex(photos["image_phash"], _HASH)).as_py():
        raise ValueError("hashes of another format")


def _key(source: str) -> str:
    return f"drift/{safe_name(source)}/phash.parquet"


def _write(spec: StoreSpec, source: str, photos: pd.DataFrame) -> None:
    kept = photos.groupby(CAMERA).tail(KEEP_OF_CAMERA).tail(KEEP_PHOTOS)
    table = pa.Table.from_pandas(kept, schema=PHOTOS, preserve_index=False).replace_schema_metadata(None)
    baseline_files.write(spec, _key(source), table)

"""The same photo sent again under another id, re-encoded or re-scaled: seen by its perceptual hash. A warning, as all drift.

Belongs here: which photos are alike, and the hashes that are kept to compare with. Does not: making hashes
(fugue_jobs/likeness.py), or photos whose bytes are the same (drift.py). A photo is compared with its own camera's only. A
camera before which nothing moves sends pictures that cannot be told from one sent again: it is not judged.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cropline import storage
from cropline.keys import safe_name
from cropline.phash import CELLS, LETTERS
from expectations.drift import Drift
from expectations.drift_baseline import CAMERA

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from cropline.storage import StoreSpec

KEEP_PHOTOS = 20_000
KEEP_OF_CAMERA = 1_000

PHOTOS = pa.schema(
    [
        ("store_id", pa.string()),
        ("camera_id", pa.string()),
        ("image_id", pa.string()),
        ("captured_at", pa.string()),
        ("image_phash", pa.string()),
        ("like", pa.string()),  # id of a photo that came before and looks the same; null: none did
    ]
)


@dataclass(frozen=True)
class Limits:
    """When two photos are the same one. Measured on the demo's photos: the same one at quality 60 and a quarter of its size
    is at most 4.2 away, the next frame of a burst at least 5.5."""

    distance: float = 4.8  # luma, 0..255
    cells: int = 32  # known to both; fewer are no evidence
    share: float = 0.8  # of the cells that the one with fewer knows
    contrast: float = 10.0  # standard deviation of a photo's cells; blank and dark photos are all alike
    photos: int = 5  # of a camera, to know whether anything moves before it
    still: float = 0.5  # a camera of which more photos look like earlier ones looks at what never moves


def watch_photos(spec: StoreSpec, source: str, crops: pa.Table) -> list[Drift]:
    """Compare a batch's photos (schemas.CROPS) with those kept of the source, and keep them too. Raises StorageError.

    Two batches that end at the same moment may keep only one's photos.
    """
    known = _read(spec, source)
    both = find_alike(_photos(crops), known)
    if len(both) > len(known):
        _write(spec, source, both)
    return _warnings(both, known)


def find_alike(new: pd.DataFrame, known: pd.DataFrame, limits: Limits | None = None) -> pd.DataFrame:
    """Both (columns PHOTOS), newest last, with ``like`` of the new ones said. A photo that is known already stays as it is."""
    import pandas as pd

    limits = limits or Limits()
    new = new[~new["image_id"].isin(known["image_id"])]
    both = pd.concat([known, new], ignore_index=True)
    both["like"] = both["like"].astype(object)
    for _, rows in both.groupby(CAMERA, sort=True):
        first = int((rows.index < len(known)).sum())
        for position, other in _nearest(rows["image_phash"].tolist(), first, limits):
            both.loc[rows.index[position], "like"] = rows["image_id"].iloc[other]
    return both


def _nearest(hashes: list[str], first: int, limits: Limits) -> list[tuple[int, int]]:
    """(position, position of the nearest earlier one that is alike) of the hashes from ``first`` on."""
    if first == len(hashes):
        return []
    luma, known = _cells(hashes)
    count = known.sum(axis=1)
    common = known[first:] @ known.T
    # Of the cells that both know, the sum of squared differences: a^2 + b^2 - 2ab, all pairs at once.
    apart = luma[first:] ** 2 @ known.T + known[first:] @ (luma**2).T - 2 * luma[first:] @ luma.T
    distance = np.sqrt(np.maximum(apart, 0) / np.maximum(common, 1))
    distance[(common < limits.cells) | (common < limits.share * np.minimum(count[first:, None], count))] = np.inf
    mean = luma.sum(axis=1) / np.maximum(count, 1)
    contrast = np.sqrt(np.maximum((luma**2).sum(axis=1) / np.maximum(count, 1) - mean**2, 0))
    distance[contrast[first:] < limits.contrast] = np.inf
    # Only those that came before.
    distance[np.arange(len(hashes))[None, :] >= np.arange(first, len(hashes))[:, None]] = np.inf
    nearest = distance.argmin(axis=1)
    return [(first + row, int(other)) for row, other in enumerate(nearest) if distance[row, other] <= limits.distance]


def _cells(hashes: list[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(luma about the middle or 0, 1.0 where it is known) of each cell, a row a hash."""
    values = np.full(256, np.nan)
    values[[ord(letter) for letter in LETTERS]] = (np.arange(len(LETTERS)) + 0.5) * 256 / len(LETTERS) - 128
    cells = values[np.frombuffer("".join(hashes).encode("latin-1"), np.uint8)].reshape(len(hashes), -1)
    return np.nan_to_num(cells), (~np.isnan(cells)).astype(float)


def _warnings(both: pd.DataFrame, known: pd.DataFrame, limits: Limits | None = None) -> list[Drift]:
    limits = limits or Limits()
    found = []
    for _, mine in both.groupby(CAMERA, sort=True):
        alike = mine[(mine.index >= len(known)) & mine["like"].notna()]
        if not len(alike) or len(mine) < limits.photos or mine["like"].notna().mean() > limits.still:
            continue
        text = f"{len(alike)} photos look as ones that came before under other ids: sent again, perhaps re-encoded"
        example = alike.iloc[0]
        evidence: dict[str, float | str] = {
            "photos": float(len(alike)),
            "of_photos": float(len(mine)),
            "image_id": str(example["image_id"]),
            "like": str(example["like"]),
            "captured_at": str(example["captured_at"]),
        }
        found.append(Drift("photo_alike", str(example["store_id"]), str(example["camera_id"]), text, evidence))
    return found


def _photos(crops: pa.Table) -> pd.DataFrame:
    """The batch's photos that have a hash."""
    names = [name for name in PHOTOS.names if name != "like"]
    rows = crops.select(names).to_pandas().dropna(subset=["image_phash"]).drop_duplicates("image_id")
    rows = rows[rows["image_phash"].str.len() == CELLS**2]
    photos: pd.DataFrame = rows.fillna({"store_id": "", "camera_id": ""}).assign(like=None)
    return photos


def _key(source: str) -> str:
    return f"drift/{safe_name(source)}/phash.parquet"


def _read(spec: StoreSpec, source: str) -> pd.DataFrame:
    import pyarrow.parquet as pq

    key, table = _key(source), PHOTOS.empty_table()
    if storage.exists(spec, key):
        table = pq.read_table(pa.BufferReader(storage.read(spec, key)))
    photos: pd.DataFrame = table.to_pandas()
    return photos


def _write(spec: StoreSpec, source: str, photos: pd.DataFrame) -> None:
    import pyarrow.parquet as pq

    kept = photos.groupby(CAMERA).tail(KEEP_OF_CAMERA).tail(KEEP_PHOTOS)
    table = pa.Table.from_pandas(kept, schema=PHOTOS, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    storage.write(spec, _key(source), buffer.getvalue())

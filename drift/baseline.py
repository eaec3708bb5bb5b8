"""The baseline of a source: images and boxes of each camera by hour of capture, and the photos seen lately.

A manifest of a million boxes becomes one row per camera and hour; the baseline holds four weeks of these. Hours are of
capture, so that late arrivals count in the right hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cropline.core.keys import safe_name
from cropline.core.schemas import UTC
from drift import baseline_files
from drift.baseline_files import CorruptFile

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from cropline.core.store_spec import StoreSpec

KEEP = timedelta(days=28)
KEEP_MANIFESTS = 2_000
KEEP_PHOTOS = 200_000
SIZES = 16  # classes of box area, each half of the one before; the first is a quarter of the picture or more
CAMERA = ["store_id", "camera_id"]

HOURS = pa.schema(
    [
        ("store_id", pa.string()),
        ("camera_id", pa.string()),
        ("hour", UTC),  # its start
        ("images", pa.int64()),
        ("without_boxes", pa.int64()),
        ("boxes", pa.int64()),
        ("x", pa.float64()),  # sum of the boxes' centres, as fractions of the picture
        ("y", pa.float64()),
        *((f"size_{n:02}", pa.int64()) for n in range(SIZES)),
    ]
)
PHOTOS = pa.schema([("sha256", pa.string()), ("image_id", pa.string())])


@dataclass(frozen=True)
class Baseline:
    """The baseline of one source.

    ``manifests``: keys of those it includes, newest last. ``judged``: the last hour whose volumes were judged.
    ``corrupt``: files that could not be read and count as empty.
    """

    hours: pa.Table
    photos: pa.Table
    manifests: tuple[str, ...] = ()
    judged: datetime | None = None
    corrupt: tuple[CorruptFile, ...] = ()

    @classmethod
    def empty(cls) -> Baseline:
        return cls(HOURS.empty_table(), PHOTOS.empty_table())


def observe(manifest: pa.Table) -> Baseline:
    """Return the sums of one manifest's (good) rows."""
    import pandas as pd

    boxes = manifest["boxes"].combine_chunks()
    lists = boxes if isinstance(boxes, pa.ListArray) else pa.concat_arrays(boxes.chunks)
    count = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    frame = pd.DataFrame({name: manifest[name].fill_null("").to_pandas() for name in CAMERA})
    frame["hour"] = manifest["captured_at"].to_pandas().dt.floor("h")
    frame["images"], frame["without_boxes"], frame["boxes"] = 1, (count == 0).astype(int), count
    frame = frame.join(_geometry(manifest, lists, count))
    sums = frame.dropna(subset="hour").groupby([*CAMERA, "hour"], sort=True).sum().reset_index()
    photos = manifest.select(PHOTOS.names).filter(pc.is_valid(manifest["sha256"]))
    return Baseline(_table(sums), photos)


def _geometry(manifest: pa.Table, lists: pa.ListArray, count: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Return, per image, the sums of its boxes' centres and the number of boxes of each size."""
    import pandas as pd

    image = np.repeat(np.arange(len(count)), count)
    pixels = pc.equal(manifest["coordinates"], "pixels").fill_null(False).to_numpy()
    corners = {}
    for name, side in (("xmin", "width"), ("ymin", "height"), ("xmax", "width"), ("ymax", "height")):
        unit = np.where(pixels, pc.cast(manifest[side], pa.float64()).to_numpy(zero_copy_only=False), 1.0)
        corners[name] = pc.struct_field(lists.flatten(), name).to_numpy(zero_copy_only=False) / unit[image]
    area = (corners["xmax"] - corners["xmin"]) * (corners["ymax"] - corners["ymin"])
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.nan_to_num(np.clip(-np.log2(area) - 1, 0, SIZES - 1), nan=SIZES - 1).astype(int)
    counts = np.bincount(image * SIZES + size, minlength=len(count) * SIZES).reshape(-1, SIZES)
    sums = {
        axis: np.bincount(
            image, np.nan_to_num((corners[f"{axis}min"] + corners[f"{axis}max"]) / 2), minlength=len(count)
        )
        for axis in ("x", "y")
    }
    return pd.DataFrame(sums | {f"size_{n:02}": counts[:, n] for n in range(SIZES)})


def merge(baseline: Baseline, seen: Baseline, manifest_key: str, *, judged: datetime) -> Baseline:
    """Return both together, without what is older than KEEP. A manifest that is included already changes nothing."""
    import pandas as pd

    if manifest_key in baseline.manifests:
        return baseline
    both = pd.concat([baseline.hours.to_pandas(), seen.hours.to_pandas()])
    sums = both.groupby([*CAMERA, "hour"], sort=True).sum().reset_index()
    if len(sums):
        sums = sums[sums["hour"] > sums["hour"].max() - KEEP]
    photos = pa.concat_tables([baseline.photos, seen.photos])
    return Baseline(
        hours=_table(sums),
        photos=photos.slice(max(0, photos.num_rows - KEEP_PHOTOS)),
        manifests=(*baseline.manifests, manifest_key)[-KEEP_MANIFESTS:],
        judged=judged if baseline.judged is None else max(judged, baseline.judged),
    )


def _table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame[HOURS.names], schema=HOURS, preserve_index=False).replace_schema_metadata(None)


def read_baseline(spec: StoreSpec, source: str) -> Baseline:
    """Return the stored baseline of a source. Missing or corrupt parts are empty. Raise StorageError."""
    hours_key, photos_key = _keys(source)
    hours = baseline_files.read(spec, hours_key, HOURS, _check_hours)
    photos = baseline_files.read(spec, photos_key, PHOTOS, _check_photos)
    if hours is None or photos is None:
        return Baseline.empty()
    corrupt = tuple(found for found in (hours, photos) if isinstance(found, CorruptFile))
    seen = photos if isinstance(photos, pa.Table) else PHOTOS.empty_table()
    if not isinstance(hours, pa.Table):
        return Baseline(HOURS.empty_table(), seen, corrupt=corrupt)
    manifests, judged = _notes(hours)
    return Baseline(hours.replace_schema_metadata(None), seen, manifests, judged, corrupt)


def _notes(hours: pa.Table) -> tuple[tuple[str, ...], datetime | None]:
    known = {name.decode(): value.decode() for name, value in (hours.schema.metadata or {}).items()}
    judged = datetime.fromisoformat(known["judged"]) if known.get("judged") else None
    return tuple(known.get("manifests", "").split()), judged


def _check_hours(hours: pa.Table) -> None:
    if any(column.null_count for column in hours.columns):
        raise ValueError("sums that are null")
    if not all(pc.all(pc.is_finite(hours[axis])).as_py() is not False for axis in ("x", "y")):
        raise ValueError("sums that are not numbers")
    _, judged = _notes(hours)
    if judged is not None and judged.tzinfo is None:
        raise ValueError("a judged hour without a UTC offset")


def _check_photos(photos: pa.Table) -> None:
    if photos["sha256"].null_count:
        raise ValueError("photos without their hash")


def write_baseline(spec: StoreSpec, source: str, baseline: Baseline) -> None:
    """Store the baseline. Raise StorageError."""
    hours_key, photos_key = _keys(source)
    baseline_files.write(spec, photos_key, baseline.photos)
    judged = baseline.judged.isoformat() if baseline.judged else ""
    notes = {"manifests": " ".join(baseline.manifests), "judged": judged}
    baseline_files.write(spec, hours_key, baseline.hours.replace_schema_metadata(notes))


def _keys(source: str) -> Sequence[str]:
    return tuple(f"drift/{safe_name(source)}/{name}.parquet" for name in ("hours", "photos"))

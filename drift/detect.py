"""Finds what is unusual in a manifest or a batch, compared with the source's own past. Warnings never block.

Every limit needs both: a difference that matters, and enough images to rule out chance.

volume_low, volume_high   a camera's last complete hour, compared with the same hour of earlier days
camera_silent             a camera has sent nothing for as long as it usually takes to send ten images
share_without_boxes       share of images without boxes, compared with the camera's usual share
box_sizes                 distribution of box areas, compared with the camera's usual one
camera_shifted            all boxes of a camera moved together: the camera was moved
photo_again               the same bytes under another image id
near_duplicate            the same photo in other bytes (near_duplicates.py)
photo_dark, photo_blank   crops that show nothing
photo_blurred             a camera's crops are far softer than its others
baseline_corrupt          the baseline cannot be read and is built again (baseline_files.py)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np

from drift.baseline import CAMERA, SIZES, Baseline, merge, observe, read_baseline, write_baseline

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from cropline.core.store_spec import StoreSpec
    from drift.baseline_files import CorruptFile

DriftKind = Literal[
    "volume_low",
    "volume_high",
    "camera_silent",
    "share_without_boxes",
    "box_sizes",
    "camera_shifted",
    "photo_again",
    "near_duplicate",
    "photo_dark",
    "photo_blank",
    "photo_blurred",
    "baseline_corrupt",
]


@dataclass(frozen=True)
class Limits:
    """How large a difference must be for a warning."""

    late: timedelta = timedelta(hours=1)  # wait after the end of an hour before it is judged
    days: int = 5  # history of a camera before it is judged
    volume_factor: float = 3.0
    deviations: float = 5.0  # standard deviations that rule out chance
    silent_images: float = 10.0
    share: float = 0.2
    size_index: float = 0.5  # population stability index; 0.25 is commonly called a major shift
    shift: float = 0.04  # fraction of the picture's side
    images: int = 20  # minimum; fewer are no evidence
    boxes: int = 200
    photos: int = 5  # of one camera in a batch; fewer do not show how sharp it usually is
    dark: float = 16.0  # luma, 0..255
    blank: float = 1.0  # variance of the luma's edges
    blurred: float = 0.25  # relative to the sharpness of the camera's other photos


@dataclass(frozen=True)
class Drift:
    """One warning. ``evidence``: the numbers behind it. ``camera_id`` None: it is not about one camera."""

    kind: DriftKind
    store_id: str | None
    camera_id: str | None
    message: str
    evidence: Mapping[str, float | str]


def check_manifest(spec: StoreSpec, source: str, manifest: pa.Table, key: str, *, now: datetime) -> list[Drift]:
    """Compare a manifest's (good) rows with the source's baseline, and add them to it.

    A manifest that was added before causes no new warnings. Raise StorageError.
    """
    baseline, seen = read_baseline(spec, source), observe(manifest)
    if key in baseline.manifests:
        return []
    found = [*map(baseline_reset, baseline.corrupt), *find_drift(seen, baseline, now=now)]
    write_baseline(spec, source, merge(baseline, seen, key, judged=judged_hour(now)))
    return found


def baseline_reset(corrupt: CorruptFile) -> Drift:
    """Return the warning about a corrupt file, which is replaced."""
    evidence: dict[str, float | str] = {
        "file": corrupt.key,
        "why": corrupt.why,
        "bytes": float(corrupt.bytes),
        "sha256": corrupt.sha256,
    }
    return Drift(
        "baseline_corrupt", None, None, "the baseline of the source cannot be read and is built again", evidence
    )


def find_drift(seen: Baseline, baseline: Baseline, *, now: datetime, limits: Limits | None = None) -> list[Drift]:
    """Return warnings about a manifest (observe), compared with a baseline that does not include it.

    The volumes of an hour are judged once: by the first manifest after the hour is complete.
    """
    limits = limits or Limits()
    judged = judged_hour(now, limits)
    volumes = _volumes(seen, baseline, judged, limits) if baseline.judged is None or baseline.judged < judged else ()
    return [*volumes, *_changes(seen, baseline, limits), *_photos_again(seen, baseline)]


def judged_hour(now: datetime, limits: Limits | None = None) -> datetime:
    """Return the last hour that is complete, including late arrivals."""
    late = (limits or Limits()).late
    return (now - late).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)


def _volumes(seen: Baseline, baseline: Baseline, judged: datetime, limits: Limits) -> Iterator[Drift]:
    import pandas as pd

    hours = pd.concat([baseline.hours.to_pandas(), seen.hours.to_pandas()])
    both = hours.groupby([*CAMERA, "hour"])["images"].sum().reset_index()
    for (store, camera), sums in both.groupby(CAMERA):
        counts = sums.set_index("hour")["images"]
        # The history is measured by capture time: a camera with few old photos that arrive late is not judged.
        if counts.index.max() - counts.index.min() >= pd.Timedelta(days=limits.days):
            yield from _volume(str(store), str(camera), counts, pd.Timestamp(judged), limits)


def _volume(store: str, camera: str, counts: pd.Series[int], judged: pd.Timestamp, limits: Limits) -> Iterator[Drift]:
    import pandas as pd

    days = pd.date_range(end=judged, periods=29, freq="D")[:-1]
    days = days[days >= counts.index.min()]
    before = counts.reindex(days, fill_value=0).to_numpy(dtype=float)
    count, expected = float(counts.get(judged, 0)), float(np.median(before))
    silent = _silence(counts, judged)
    evidence: dict[str, float | str] = {
        "hour": judged.isoformat(),
        "images": count,
        "baseline": expected,
        "days": float(len(before)),
    }
    if silent >= limits.silent_images:
        last = counts.index.max().isoformat()
        text = f"nothing since the hour of {last}; about {silent:.0f} images would be usual"
        yield Drift("camera_silent", store, camera, text, {"last_hour": last, "baseline": round(silent, 1)})
        return
    # The square root of a Poisson count has a deviation of 0.5, whatever the count; bursts deviate more.
    spread = max(0.5, float(np.std(np.sqrt(before))))
    far = abs(np.sqrt(count) - np.sqrt(expected)) > limits.deviations * spread
    if far and count * limits.volume_factor < expected:
        yield Drift(
            "volume_low", store, camera, f"{count:.0f} images in an hour that usually has {expected:.0f}", evidence
        )
    elif far and count > expected * limits.volume_factor:
        yield Drift(
            "volume_high", store, camera, f"{count:.0f} images in an hour that usually has {expected:.0f}", evidence
        )


def _silence(counts: pd.Series[int], judged: pd.Timestamp) -> float:
    """Return how many images would be usual for the hours without any, up to and including the judged one."""
    import pandas as pd

    gap = pd.date_range(counts.index.max() + pd.Timedelta(hours=1), judged, freq="h")
    days = max(1.0, (counts.index.max() - counts.index.min()) / pd.Timedelta(days=1))
    by_hour = counts.groupby(pd.DatetimeIndex(counts.index).hour).sum() / days
    return float(by_hour.reindex(gap.hour, fill_value=0.0).sum())


def _changes(seen: Baseline, baseline: Baseline, limits: Limits) -> Iterator[Drift]:
    """Compare the images of this manifest with the baseline, camera by camera."""
    hours = baseline.hours.to_pandas()
    of_camera = hours.groupby(CAMERA)
    now = seen.hours.to_pandas().drop(columns="hour").groupby(CAMERA).sum()
    before = hours.drop(columns="hour").groupby(CAMERA).sum()
    for camera in now.index.intersection(before.index):
        here, there = now.loc[camera], before.loc[camera]
        if here["images"] >= limits.images and there["images"] >= limits.images:
            yield from _share(camera, here, there, limits)
        if here["boxes"] >= limits.boxes and there["boxes"] >= limits.boxes:
            yield from _sizes(camera, here, there, limits)
            yield from _shift(camera, here, of_camera.get_group(camera), limits)


def _share(camera: tuple[str, str], here: pd.Series[float], there: pd.Series[float], limits: Limits) -> Iterator[Drift]:
    share, baseline = here["without_boxes"] / here["images"], there["without_boxes"] / there["images"]
    both = (here["without_boxes"] + there["without_boxes"]) / (here["images"] + there["images"])
    error = np.sqrt(both * (1 - both) * (1 / here["images"] + 1 / there["images"]))
    if abs(share - baseline) > max(limits.share, limits.deviations * error):
        text = f"{share:.0%} of {here['images']:.0f} images have no boxes; {baseline:.0%} is usual"
        evidence = {
            "share": round(float(share), 3),
            "baseline": round(float(baseline), 3),
            "images": float(here["images"]),
        }
        yield Drift("share_without_boxes", *camera, text, evidence)


def _sizes(camera: tuple[str, str], here: pd.Series[float], there: pd.Series[float], limits: Limits) -> Iterator[Drift]:
    names = [f"size_{n:02}" for n in range(SIZES)]
    # Half a box is added to every class: an empty class does not prove that such boxes cannot occur.
    now, baseline = ((side[names].to_numpy(dtype=float) + 0.5) / (side["boxes"] + SIZES / 2) for side in (here, there))
    index = float(np.sum((now - baseline) * np.log(now / baseline)))
    if index > limits.size_index:
        steps = np.arange(SIZES)
        factor = float(2 ** (np.sum(steps * baseline) - np.sum(steps * now)))
        text = f"boxes are {factor:.2g} times as large as usual, or of other sizes (stability index {index:.2f})"
        yield Drift("box_sizes", *camera, text, {"stability_index": round(index, 3), "factor": round(factor, 3)})


def _shift(camera: tuple[str, str], here: pd.Series[float], hours: pd.DataFrame, limits: Limits) -> Iterator[Drift]:
    known = hours[hours["boxes"] >= limits.boxes / 10]
    if len(known) < limits.days:
        return
    moved, error = {}, {}
    for axis in ("x", "y"):
        centres = (known[axis] / known["boxes"]).to_numpy()
        moved[axis] = float(here[axis] / here["boxes"] - np.median(centres))
        # The deviation of one box, estimated from the deviation of means over many boxes.
        one = np.sqrt(np.mean((centres - np.median(centres)) ** 2 * known["boxes"].to_numpy()))
        error[axis] = float(one / np.sqrt(here["boxes"]))
    if any(abs(moved[axis]) > max(limits.shift, limits.deviations * error[axis]) for axis in moved):
        text = f"all boxes moved by {moved['x']:+.3f} across and {moved['y']:+.3f} down, as fractions of the picture"
        evidence = {axis: round(moved[axis], 4) for axis in moved} | {"boxes": float(here["boxes"])}
        yield Drift("camera_shifted", *camera, text, evidence)


def _photos_again(seen: Baseline, baseline: Baseline) -> Iterator[Drift]:
    import pandas as pd

    new = seen.photos.to_pandas()
    known = pd.concat([baseline.photos.to_pandas(), new]).drop_duplicates()
    ids = known[known["sha256"].isin(new["sha256"])].groupby("sha256")["image_id"].agg(list)
    again = ids[ids.str.len() > 1]
    if len(again):
        text = f"{len(again)} photos have more than one image id"
        evidence: dict[str, float | str] = {"photos": float(len(again)), "images": float(again.str.len().sum())}
        yield Drift("photo_again", None, None, text, evidence | {"sha256": str(again.index[0])})


def find_poor_photos(crops: pa.Table, limits: Limits | None = None) -> list[Drift]:
    """Return warnings about the photos of a batch, from the statistics of its written crops (schemas.CROPS)."""
    limits = limits or Limits()
    names = [*CAMERA, "source", "image_id", "status", "luminance", "sharpness"]
    table = crops.select(names).to_pandas()
    written = (
        table[table["status"] == "written"]
        .dropna(subset=["luminance", "sharpness"])
        .fillna({"store_id": "", "camera_id": ""})
    )
    photos = written.groupby([*CAMERA, "source", "image_id"])[["luminance", "sharpness"]].median()
    found = []
    for camera, mine in photos.groupby(CAMERA):
        blank = mine["sharpness"] < limits.blank
        dark = ~blank & (mine["luminance"] < limits.dark)
        baseline = float(mine["sharpness"][~blank & ~dark].median()) if (~blank & ~dark).any() else 0.0
        blurred = (len(mine) >= limits.photos) & ~blank & ~dark & (mine["sharpness"] < limits.blurred * baseline)
        for kind, which in (("photo_blank", blank), ("photo_dark", dark), ("photo_blurred", blurred)):
            found += _poor(kind, camera, mine[which], baseline)  # type: ignore[arg-type]
    return found


def _poor(kind: DriftKind, camera: Sequence[str], photos: pd.DataFrame, baseline: float) -> list[Drift]:
    if not len(photos):
        return []
    meaning = {"photo_blank": "show nothing", "photo_dark": "are dark", "photo_blurred": "are blurred"}[kind]
    example = photos.index[0]
    evidence: dict[str, float | str] = {
        "photos": float(len(photos)),
        "luminance": round(float(photos["luminance"].median()), 1),
        "sharpness": round(float(photos["sharpness"].median()), 2),
        "baseline_sharpness": round(baseline, 2),
        "image_id": str(example[3]),
    }
    return [Drift(kind, camera[0], camera[1], f"{len(photos)} photos {meaning}", evidence)]

"""What was made of some photos: found, written down before it is touched, and removed.

Belongs here: one portion of photos. Does not: which photos, or how far an erasure came (erase.py).
A portion is written to the log of its erasure before anything of it is removed: whatever kills the erasure, the next
one reads there what was being removed, removes what is left of it, and the receipt names all of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cropline import keys, storage
from cropline.catalogue import Catalogue

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.storage import StoreSpec

_LISTS_AT_ONCE = 8


@dataclass(frozen=True)
class Traces:
    """What there is of one photo: objects below the storage root, and how many rows of the catalogue."""

    image_id: str
    rows: int
    objects: list[str]


@dataclass(frozen=True)
class Portion:
    """What there is of some photos. ``reports``: reports and contact sheets of the runs that cut them show their crops."""

    images: list[Traces]
    reports: list[str]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Portion:
        found = json.loads(data)
        return cls([Traces(**entry) for entry in found["images"]], found["reports"])


def collect(spec: StoreSpec, source: str, image_ids: Sequence[str]) -> Portion:
    """Look for them in the store itself: old versions and what a killed run left are in no row of the catalogue."""
    rows = Catalogue(spec).images_rows(source, image_ids)
    counts: dict[str, int] = {}
    for image_id in rows["image_id"].to_pylist():
        counts[image_id] = counts.get(image_id, 0) + 1
    objects = _objects(spec, source, image_ids)
    found = [Traces(image_id, counts.get(image_id, 0), objects[image_id]) for image_id in image_ids]
    return Portion(found, _reports(spec, rows))


def remove(spec: StoreSpec, source: str, portion: Portion) -> int | None:
    """Rows first: no reader is led to an object that is gone. Gives the catalogue's version without them."""
    version = Catalogue(spec).forget_images(source, [image.image_id for image in portion.images])
    storage.delete(spec, [*(key for image in portion.images for key in image.objects), *portion.reports])
    return version


def _objects(spec: StoreSpec, source: str, image_ids: Sequence[str]) -> dict[str, list[str]]:
    folders = storage.list_folders(spec, f"{keys.CROPS}/")

    def of(image_id: str) -> list[str]:
        below = keys.image_key(source, image_id)
        return [key for folder in folders for key in storage.list_keys(spec, f"{folder}/{below}/")]

    with ThreadPoolExecutor(_LISTS_AT_ONCE, thread_name_prefix="erasure") as pool:
        return dict(zip(image_ids, pool.map(of, image_ids), strict=True))


def _reports(spec: StoreSpec, rows: pa.Table) -> list[str]:
    runs = {run for run in rows["flow_run"].unique().to_pylist() if run}
    if not runs:
        return []
    return [key for key in storage.list_keys(spec, "reports/") if any(run in key for run in runs)]

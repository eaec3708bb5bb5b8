"""Finds what was made from some photos, logs it, and removes it.

A portion is written to the erasure's log before any of it is removed. When the erasure is killed, the next call reads
the log and removes the rest, and the receipt names all of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cropline.catalogue import Catalogue
from cropline.core import keys, storage
from cropline.packs import beside
from cropline.packs.reading import holds, list_packs
from cropline.pipeline.pack_rewrite import rewrite

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.core.store_spec import StoreSpec

_LISTS_AT_ONCE = 8


@dataclass(frozen=True)
class Traces:
    """What exists of one photo: objects below the storage root, and the number of its catalogue rows."""

    image_id: str
    rows: int
    objects: list[str]


@dataclass(frozen=True)
class Portion:
    """What exists of some photos.

    ``reports``: reports and contact sheets of the runs that cut them, which show crops.
    """

    images: list[Traces]
    reports: list[str]
    packs: list[str]  # they hold crops of these photos; their other crops move to new packs

    @classmethod
    def joined(cls, portions: Iterable[Portion]) -> Portion:
        """Return several portions as one."""
        parts = list(portions)
        return cls(
            [image for part in parts for image in part.images],
            sorted({key for part in parts for key in part.reports}),
            sorted({key for part in parts for key in part.packs}),
        )

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Portion:
        found = json.loads(data)
        return cls([Traces(**entry) for entry in found["images"]], found["reports"], found["packs"])


class Packs:
    """Which packs hold crops of some photos. Reads every pack in the store once."""

    def __init__(self, spec: StoreSpec, source: str, image_ids: Iterable[str]) -> None:
        wanted = {keys.image_key(source, image_id) for image_id in image_ids}
        packs = list_packs(spec)
        with ThreadPoolExecutor(_LISTS_AT_ONCE, thread_name_prefix="erasure") as pool:
            held = pool.map(lambda pack: holds(spec, pack) & wanted, packs)
            self._held = {pack: found for pack, found in zip(packs, held, strict=True) if found}
        self._source = source

    def of(self, image_ids: Iterable[str]) -> list[str]:
        """The packs that hold these photos."""
        wanted = {keys.image_key(self._source, image_id) for image_id in image_ids}
        return [pack for pack, found in self._held.items() if found & wanted]


def collect(spec: StoreSpec, source: str, image_ids: Sequence[str], packs: Packs) -> Portion:
    """Search the store itself: no catalogue row names old versions and leftovers of killed runs."""
    rows = Catalogue(spec).images_rows(source, image_ids)
    counts: dict[str, int] = {}
    for image_id in rows["image_id"].to_pylist():
        counts[image_id] = counts.get(image_id, 0) + 1
    objects = _objects(spec, source, image_ids)
    found = [Traces(image_id, counts.get(image_id, 0), objects[image_id]) for image_id in image_ids]
    # The packs were listed before; the rows also name packs written since then.
    named = {shard for shard in rows["shard"].to_pylist() if shard}
    return Portion(found, _reports(spec, rows), sorted({*packs.of(image_ids), *named}))


def remove(spec: StoreSpec, source: str, portion: Portion, check_lock: Callable[[], None]) -> None:
    """Remove rows first, so that no row names an object that is gone. Raise what ``check_lock`` raises."""
    gone = {image.image_id for image in portion.images}
    for pack in portion.packs:
        rewrite(spec, pack, source, gone, check_lock)
    Catalogue(spec).forget_images(source, gone)
    packs = [pack for pack in portion.packs if not len(Catalogue(spec).shard_rows(pack))]
    objects = [key for image in portion.images for key in image.objects]
    storage.delete(spec, [*objects, *packs, *(key for pack in packs for key in beside(pack)), *portion.reports])


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

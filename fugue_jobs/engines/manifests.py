"""A batch's image rows, which are in manifests: read where they are needed, here or on the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from cropline.core.schemas import IMAGES, MANIFEST
from cropline.core.store_spec import StoreSpec
from cropline.intake import manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = ("manifest", "manifest_row")
IMAGE_ROWS = pa.schema([field for field in IMAGES if field.name in (*_HERE, *MANIFEST.names)])
COUNTS = pa.schema(
    [("manifest", pa.string()), ("manifest_row", pa.int64()), ("bytes", pa.int64()), ("boxes", pa.int64())]
)
# What a worker reads at a time.
_PART = pa.schema([("manifest", pa.string()), ("rows", pa.list_(pa.int64()))])
_PART_ROWS = 1_000


@dataclass(frozen=True)
class ManifestRows:
    """References to the image rows of a batch. Picklable, and holds no rows itself."""

    store: StoreSpec
    rows: tuple[tuple[str, tuple[int, ...]], ...]  # (manifest, rows) in the order of manifests
    near: tuple[tuple[str, Path], ...] = ()  # local copies; workers read the store

    @classmethod
    def of(cls, store: StoreSpec, claimed: pa.Table, near: Mapping[str, Path] | None = None) -> ManifestRows:
        """Return references to the claimed images (schemas.CLAIM). ``near``: local copies of manifests, by key."""
        rows: dict[str, list[int]] = {}
        for claim in claimed.select(list(_HERE)).to_pylist():
            rows.setdefault(claim["manifest"], []).append(claim["manifest_row"])
        return cls(store, tuple((key, tuple(sorted(rows[key]))) for key in sorted(rows)), tuple((near or {}).items()))

    def table(self) -> pa.Table:
        """Read all rows here: IMAGE_ROWS. Raise ManifestError. Rows that a manifest does not have are left out."""
        near = dict(self.near)
        tables = [_image_rows(self.store, key, rows, near.get(key)) for key, rows in self.rows]
        return pa.concat_tables([IMAGE_ROWS.empty_table(), *tables])

    @cached_property
    def counts(self) -> pa.Table:
        """Return COUNTS, which planning needs: of the rows only the sizes are read."""
        near, columns = dict(self.near), ["bytes", "boxes.list.element.xmin"]
        parts = [
            _counted(key, manifest.read_rows(self.store, key, rows, columns, near.get(key))) for key, rows in self.rows
        ]
        return pa.concat_tables([COUNTS.empty_table(), *parts])

    @property
    def store_ids(self) -> pa.ChunkedArray:
        """Return the store of each image: of the rows only this is read."""
        near = dict(self.near)
        parts = [manifest.read_rows(self.store, key, rows, ["store_id"], near.get(key)) for key, rows in self.rows]
        return pa.chunked_array([chunk for part in parts for chunk in part["store_id"].chunks], pa.string())

    @property
    def parts(self) -> pa.Table:
        """Return the references as rows for ``reader``, one per read of a worker."""
        parts = [
            {"manifest": key, "rows": rows[start : start + _PART_ROWS]}
            for key, rows in self.rows
            for start in range(0, len(rows), _PART_ROWS)
        ]
        return pa.Table.from_pylist(parts, schema=_PART)

    @property
    def reader(self) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
        """Return a function for workers: batches of ``parts`` in, batches of IMAGE_ROWS out."""
        return partial(_read_parts, self.store)


Images: TypeAlias = pa.Table | ManifestRows


def sizes(images: Images) -> pa.Table:
    """Return COUNTS of images, loaded or not."""
    if isinstance(images, ManifestRows):
        return images.counts
    return _sized(images["manifest"], images["manifest_row"], images)


def stores_of(images: Images, stores: pa.Table) -> pa.Table:
    """Return the rows of ``stores`` (schemas.STORES) that these images name."""
    named = images.store_ids if isinstance(images, ManifestRows) else images["store_id"]
    return stores.filter(pc.is_in(stores["store_id"], value_set=pc.unique(named).drop_null()))


def narrowed(images: Images, claimed: pa.Table) -> Images:
    """Return the images of these claims only."""
    if isinstance(images, ManifestRows):
        return ManifestRows.of(images.store, claimed, dict(images.near))
    return rows_of(images, claimed)


def rows_of(table: pa.Table, claimed: pa.Table) -> pa.Table:
    """Return the rows of a table with manifest and manifest_row that these claims name."""
    wanted = set(_places(claimed))
    return table.filter(pa.array([place in wanted for place in _places(table)], pa.bool_()))


def _places(table: pa.Table) -> Iterator[tuple[str, int]]:
    return zip(*(table[name].to_pylist() for name in _HERE), strict=True)


def load_rows(images: Images) -> pa.Table:
    """Return the image rows, read here if they are not loaded."""
    return images.table() if isinstance(images, ManifestRows) else images


def _read_parts(store: StoreSpec, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read rows on a worker. Raise ManifestError."""
    for batch in batches:
        for part in batch.to_pylist():
            yield from _image_rows(store, part["manifest"], part["rows"]).to_batches(max_chunksize=256)


def _image_rows(store: StoreSpec, key: str, rows: Sequence[int], near: Path | None = None) -> pa.Table:
    columns = [name for name in IMAGE_ROWS.names if name not in _HERE]
    found = manifest.read_rows(store, key, rows, columns, near)
    captured = pc.strftime(found["captured_at"], "%Y-%m-%dT%H:%M:%SZ")
    found = found.set_column(found.schema.get_field_index("captured_at"), "captured_at", captured)
    found = found.append_column("manifest", pa.array([key] * len(found), pa.string()))
    found = found.append_column("manifest_row", found["row"])
    return found.select(IMAGE_ROWS.names).cast(IMAGE_ROWS)


def _counted(key: str, found: pa.Table) -> pa.Table:
    return _sized(pa.array([key] * len(found), pa.string()), found["row"], found)


def _sized(manifests: Any, rows: Any, found: pa.Table) -> pa.Table:
    boxes = pc.fill_null(pc.list_value_length(found["boxes"]), 0).cast(pa.int64())
    return pa.table([manifests, rows, found["bytes"], boxes], schema=COUNTS)

"""Find rows in data files by what they are: which files, which row groups, which positions. One column is read first.

delta-rs' own engine finds rows too, but not where they are; and it reads every file for more than twenty ids.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue import blooms
from cropline.catalogue.files import DataFile, Ranges, Snapshot
from cropline.catalogue.rows import CATALOGUE, PARTITION, ImageProfile, in_schema
from cropline.core import storage
from cropline.core.own_columns import stored_type
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_FILES_AT_ONCE = 8
_ROWS_OF_FILES_AT_ONCE = 4  # each holds a row group in memory
_FILTERS_AT_ONCE = 32  # small reads of a store
_WORK = ("source", "image_id", "profile")

Groups = list[int] | None
"""Row groups of a file that may hold what is looked for; None: each of them may."""


@dataclass(frozen=True)
class Wanted:
    """The rows to find: those of some photos of a source, or of some work items.

    ``batches``: the batches that committed them, where they are known. Few files hold rows of one batch.
    """

    images: dict[str, set[str]]  # source -> image ids
    works: frozenset[ImageProfile] | None = None  # None: all profiles
    batches: frozenset[str] | None = None

    @classmethod
    def of_works(cls, works: Collection[ImageProfile], batches: Collection[str] | None = None) -> Wanted:
        images: dict[str, set[str]] = {}
        for source, image_id, _ in works:
            images.setdefault(source, set()).add(image_id)
        return cls(images, frozenset(works), None if batches is None else frozenset(batches))

    @property
    def ids(self) -> list[str]:
        return sorted({image_id for ids in self.images.values() for image_id in ids})

    @property
    def ranges(self) -> Ranges:
        values = {"image_id": self.ids}
        if self.batches is not None:
            values["batch_id"] = sorted(self.batches)
        return Ranges(values)

    def holds(self, source: str, image_id: str, profile: str) -> bool:
        if self.works is not None:
            return (source, image_id, profile) in self.works
        return image_id in self.images.get(source, ())


@dataclass(frozen=True)
class Found:
    """Rows of one file. ``groups``: by row group, its first row and the positions (in the file) of the rows found."""

    file: DataFile
    groups: dict[int, tuple[int, npt.NDArray[np.uint32]]]
    works: dict[int, list[ImageProfile]] = field(repr=False)  # by row group, of the same rows

    @property
    def positions(self) -> npt.NDArray[np.uint32]:
        return np.concatenate([positions for _, positions in self.groups.values()])

    def all_works(self) -> set[ImageProfile]:
        return {work for works in self.works.values() for work in works}

    def in_shard(self, snapshot: Snapshot, shard: str) -> Found | None:
        """Return the rows whose crops are in this pack; None when it has none."""
        held = rows_of(snapshot, [self], ["shard"])["shard"].to_pylist()
        masks, start = {}, 0
        for group, (_, positions) in self.groups.items():
            masks[group] = np.array([value == shard for value in held[start : start + len(positions)]], np.bool_)
            start += len(positions)
        return self._masked(masks)

    def only(self, wanted: Collection[ImageProfile]) -> Found | None:
        """Return the rows of these work items; None when it has none."""
        return self._masked(
            {g: np.array([work in wanted for work in works], np.bool_) for g, works in self.works.items()}
        )

    def _masked(self, masks: dict[int, npt.NDArray[np.bool_]]) -> Found | None:
        groups, works = {}, {}
        for group, mask in masks.items():
            if mask.any():
                start, positions = self.groups[group]
                groups[group] = (start, positions[mask])
                works[group] = [work for work, kept in zip(self.works[group], mask, strict=True) if kept]
        return Found(self.file, groups, works) if groups else None


def locate(snapshot: Snapshot, wanted: Wanted, *, dead: bool = False) -> list[Found]:
    """Return where the wanted rows are, file by file. With ``dead`` also those that are no longer current."""
    if not wanted.images:
        return []

    def look(file: DataFile, groups: Groups) -> Found | None:
        return _in_file(snapshot.spec, file, groups, wanted, dead)

    return _looked(snapshot.spec, snapshot.that_may_hold(wanted.ranges), wanted.ranges, "image_id", look)


def holds_any(spec: StoreSpec, files: Sequence[DataFile], wanted: Wanted, *, dead: bool = False) -> bool:
    """Return whether these files hold wanted rows. With ``dead`` also those that are no longer current."""
    ranges = wanted.ranges

    def look(file: DataFile, groups: Groups) -> Found | None:
        return _in_file(spec, file, groups, wanted, dead)

    return bool(_looked(spec, [file for file in files if file.may_hold(ranges)], ranges, "image_id", look))


def names_shard(spec: StoreSpec, files: Sequence[DataFile], shard: str) -> bool:
    """Return whether rows of these files, dead ones too, have their crops in a pack."""
    ranges = Ranges({"shard": [shard]})
    for file in files:
        if file.may_hold(ranges):
            with open_file(spec, file) as parquet:
                held = parquet.read(columns=["shard"])["shard"].cast(pa.string())
            if pc.any(pc.equal(held, shard)).as_py():
                return True
    return False


def locate_crop(snapshot: Snapshot, key: str, batches: Collection[str] | None = None) -> list[Found]:
    """Return where the current rows of a crop are: one, or none. ``batches``: those that committed it, where known."""
    ranges = Ranges({"key": [key]} if batches is None else {"key": [key], "batch_id": sorted(batches)})

    def look(file: DataFile, groups: Groups) -> Found | None:
        return _crop_in_file(snapshot.spec, file, groups, ranges)

    return _looked(snapshot.spec, snapshot.that_may_hold(ranges), ranges, "key", look)


def _looked(
    spec: StoreSpec,
    near: Sequence[DataFile],
    ranges: Ranges,
    column: str,
    look: Callable[[DataFile, Groups], Found | None],
) -> list[Found]:
    """Look into the files and row groups that may hold a column's values. ``near``: files not ruled out by statistics."""
    files = _filtered(spec, near, ranges, column)
    if len(files) < 2:
        return [found for file, groups in files if (found := look(file, groups)) is not None]
    with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="catalogue") as pool:
        return [found for found in pool.map(lambda one: look(*one), files) if found is not None]


def _filtered(spec: StoreSpec, files: Sequence[DataFile], ranges: Ranges, column: str) -> list[tuple[DataFile, Groups]]:
    """Return the files that Bloom filters do not rule out, each with its row groups to look into."""
    if "batch_id" in ranges.values:
        return [(file, None) for file in files]  # most of them hold rows
    hashes = blooms.hashes_of(ranges.values[column])

    def groups_of(file: DataFile) -> Groups:
        return blooms.groups_that_may_hold(spec, file.key, file.action.get("tags") or {}, column, hashes)

    if spec.local_path is not None:
        told = [groups_of(file) for file in files]
    else:
        with ThreadPoolExecutor(_FILTERS_AT_ONCE, thread_name_prefix="catalogue") as pool:
            told = list(pool.map(groups_of, files))
    return [(file, groups) for file, groups in zip(files, told, strict=True) if groups is None or groups]


def rows_of(snapshot: Snapshot, found: Sequence[Found], columns: Sequence[str] | None = None) -> pa.Table:
    """Return these rows (CATALOGUE, or some of its columns)."""
    schema = snapshot.schema if columns is None else pa.schema([CATALOGUE.field(name) for name in columns])
    if not found:
        return schema.empty_table()
    with ThreadPoolExecutor(_ROWS_OF_FILES_AT_ONCE, thread_name_prefix="catalogue") as pool:
        parts = list(pool.map(lambda part: _read(snapshot.spec, part, schema), found))
    return pa.concat_tables(parts)


def rows_of_image(snapshot: Snapshot, source: str, image_id: str) -> pa.Table:
    """Return the current rows (CATALOGUE) of one image, for all profiles."""
    return rows_of(snapshot, locate(snapshot, Wanted({source: {image_id}})))


def row_of_crop(snapshot: Snapshot, key: str) -> pa.Table:
    """Return the current row (CATALOGUE) of a crop: one, or none."""
    return rows_of(snapshot, locate_crop(snapshot, key))


def open_file(spec: StoreSpec, file: DataFile, **options: Any) -> pq.ParquetFile:
    """Open a data file. Raise StorageError when it does not exist."""
    import pyarrow.parquet as pq

    if spec.local_path is not None:
        return pq.ParquetFile(spec.local_path / file.key, **options)
    return pq.ParquetFile(storage.open_object(spec, file.key, size=file.size), pre_buffer=True, **options)


def _in_file(spec: StoreSpec, file: DataFile, may_hold: Groups, wanted: Wanted, dead: bool) -> Found | None:
    groups: dict[int, tuple[int, npt.NDArray[np.uint32]]] = {}
    works: dict[int, list[ImageProfile]] = {}
    with open_file(spec, file, read_dictionary=["image_id"]) as parquet:
        ids, ranges = pa.array(wanted.ids, pa.string()), wanted.ranges
        for group, start in _groups(parquet, ranges, may_hold):
            hits = _hits(parquet.read_row_group(group, columns=["image_id"], use_threads=False)["image_id"], ids)
            if not len(hits):
                continue
            told = _taken(parquet, group, list(_WORK), hits)
            places = list(zip(*(told[name].to_pylist() for name in _WORK), strict=True))
            mask = np.array([wanted.holds(*place) for place in places], np.bool_)
            if not dead and len(file.dead):
                mask &= ~np.isin(hits + start, file.dead)
            if mask.any():
                groups[group] = (start, (hits[mask] + start).astype(np.uint32))
                works[group] = [place for place, kept in zip(places, mask, strict=True) if kept]
    return Found(file, groups, works) if groups else None


def _crop_in_file(spec: StoreSpec, file: DataFile, may_hold: Groups, ranges: Ranges) -> Found | None:
    groups: dict[int, tuple[int, npt.NDArray[np.uint32]]] = {}
    with open_file(spec, file) as parquet:
        keys = pa.array(ranges.values["key"], pa.string())
        for group, start in _groups(parquet, ranges, may_hold):
            hits = _hits(parquet.read_row_group(group, columns=["key"], use_threads=False)["key"], keys) + start
            current = hits[~np.isin(hits, file.dead)]
            if len(current):
                groups[group] = (start, current.astype(np.uint32))
    return Found(file, groups, {}) if groups else None


def _groups(parquet: pq.ParquetFile, ranges: Ranges, may_hold: Groups) -> Iterator[tuple[int, int]]:
    """Yield (row group, its first row) of the groups whose statistics do not rule the values out."""
    metadata, start = parquet.metadata, 0
    columns = {metadata.schema.column(number).name: number for number in range(metadata.num_columns)}
    for group in range(metadata.num_row_groups):
        told = metadata.row_group(group)
        if (may_hold is None or group in may_hold) and all(
            _may_hold(told, columns[name], name, ranges) for name in ranges.values if name in columns
        ):
            yield group, start
        start += told.num_rows


def _may_hold(group: Any, column: int, name: str, ranges: Ranges) -> bool:
    statistics = group.column(column).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return ranges.may_be_in(name, statistics.min, statistics.max)


def _hits(column: pa.ChunkedArray, ids: pa.Array) -> npt.NDArray[np.int64]:
    """Return the positions of these ids. Ids repeat, so only a chunk's different values are compared."""
    found, start = [], 0
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            held = pc.is_in(chunk.dictionary.cast(pa.string()), ids).to_numpy(zero_copy_only=False)
            if held.any():
                codes = chunk.indices.to_numpy(zero_copy_only=False)
                found.append(np.flatnonzero(held[codes]) + start)
        else:
            held = pc.is_in(chunk.cast(pa.string()), ids).to_numpy(zero_copy_only=False)
            found.append(np.flatnonzero(held) + start)
        start += len(chunk)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _taken(parquet: pq.ParquetFile, group: int, columns: list[str], positions: npt.NDArray[np.int64]) -> pa.Table:
    """Return some rows of a row group."""
    rows = parquet.read_row_group(group, columns=columns, use_threads=False)
    for number, column in enumerate(rows.schema):
        if _is_view(column.type):  # by other writers; Arrow cannot take from it
            rows = rows.set_column(number, column.name, rows[column.name].cast(stored_type(column.type)))
    return rows.take(pa.array(positions))


def _is_view(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_view(kind.value_type)
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _read(spec: StoreSpec, found: Found, schema: pa.Schema) -> pa.Table:
    parts = []
    with open_file(spec, found.file) as parquet:
        names = set(parquet.schema_arrow.names)
        held = [name for name in schema.names if name in names]
        # Without a column of the file the number of rows would be lost.
        read = held or ["image_id"]
        for group, (start, positions) in found.groups.items():
            parts.append(_taken(parquet, group, read, positions.astype(np.int64) - start))
    rows = pa.concat_tables(parts)
    if PARTITION in schema.names:
        rows = rows.append_column(PARTITION, partition_column(found.file, len(rows)))
    return in_schema(rows, schema)


def partition_column(file: DataFile, count: int) -> pa.Array:
    """Return the partition's value for each row: files do not hold it."""
    kind = CATALOGUE.field(PARTITION).type
    return pa.repeat(pa.scalar(file.day, pa.string()).cast(kind), count)

"""What commits changed, from the log: which rows of which files came and went. Compaction changes nothing.

The cost is that of the commits and of the files that they name, not of the table.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue import vectors
from cropline.catalogue.log import DELETE, STEP, read_actions, read_info
from cropline.catalogue.rows import PARTITION
from cropline.core import storage
from cropline.core.errors import CatalogueError, StorageError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow.parquet as pq

    from cropline.core.store_spec import StoreSpec

Cause = Literal["superseded", "erased"]
_READS_AT_ONCE = 16
_ROWS = 16_384
_ERASING = (DELETE, "forget", "expire")


@dataclass(frozen=True)
class FileRows:
    """Rows of one data file. ``positions`` None: all but ``dead``."""

    key: str
    dead: npt.NDArray[np.uint32]
    positions: npt.NDArray[np.uint32] | None = None


@dataclass(frozen=True)
class CommitChanges:
    """The rows that one commit removed and added. ``cause``: why rows went."""

    version: int
    cause: Cause
    removed: list[FileRows]
    added: list[FileRows]


def changes_of(spec: StoreSpec, since: int, until: int) -> Iterator[CommitChanges]:
    """Yield what the versions after ``since`` up to ``until`` changed, in their order.

    Raise CatalogueError when the log no longer has one of them.
    """
    with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="catalogue-log") as pool:
        versions = iter(range(since + 1, until + 1))
        while part := list(itertools.islice(versions, 4 * _READS_AT_ONCE)):
            for version, actions in zip(part, pool.map(lambda number: read_actions(spec, number), part), strict=True):
                if actions is None:
                    raise CatalogueError(
                        f"the catalogue's log no longer has version {version}: read all rows once, "
                        "and go on from the version that they are of"
                    )
                changes = _of_commit(version, actions)
                if changes is not None:
                    yield changes


def _of_commit(version: int, actions: list[dict[str, Any]]) -> CommitChanges | None:
    gone, come = (
        {action[kind]["path"]: action[kind] for action in actions if kind in action and action[kind]["dataChange"]}
        for kind in ("remove", "add")
    )
    if not gone and not come:
        return None
    info = read_info(actions)
    erasing = info.get(STEP) in _ERASING or info.get("operation") == "DELETE"
    changes = CommitChanges(version, "erased" if erasing else "superseded", [], [])
    for path in sorted({*gone, *come}):
        key, before, after = unquote(path), _dead(gone.get(path)), _dead(come.get(path))
        if path in gone and path in come:  # the same file with other dead rows
            for rows, positions in (
                (changes.removed, after[~np.isin(after, before)]),
                (changes.added, before[~np.isin(before, after)]),
            ):
                if len(positions):
                    rows.append(FileRows(key, before, positions))
        elif path in gone:
            changes.removed.append(FileRows(key, before))
        else:
            changes.added.append(FileRows(key, after))
    return changes


def _dead(action: dict[str, Any] | None) -> npt.NDArray[np.uint32]:
    vector = action.get("deletionVector") if action is not None else None
    if not vector:
        return vectors.none()
    if not vectors.is_inline(vector):
        raise CatalogueError("another tool deleted rows of the catalogue between these versions: read all rows once")
    return vectors.positions(vector)


def read_rows(spec: StoreSpec, rows: FileRows, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield these rows with the columns of a schema; null for those that the file lacks. Memory: one row group.

    Raise CatalogueError when maintenance has vacuumed the file.
    """
    import pyarrow.parquet as pq

    try:
        with storage.open_object(spec, rows.key) as source, pq.ParquetFile(source) as file:
            yield from _in_file(file, rows, schema)
    except (StorageError, OSError) as error:
        if storage.exists(spec, rows.key):
            raise
        raise CatalogueError(
            f"maintenance has removed {rows.key}, which holds rows of the versions between: read all rows once, "
            "and go on from the version that they are of"
        ) from error


def _in_file(file: pq.ParquetFile, rows: FileRows, schema: pa.Schema) -> Iterator[pa.Table]:
    start = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        here = np.arange(start, start + count, dtype=np.uint32)
        mask = ~np.isin(here, rows.dead) if rows.positions is None else np.isin(here, rows.positions)
        start += count
        if mask.any():
            # First in the catalogue's types: Arrow cannot choose among the views of texts that other writers store.
            whole = _in_schema(file.read_row_group(group, use_threads=False), schema)
            yield whole if mask.all() else whole.filter(pa.array(mask))


def _in_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    if PARTITION in schema.names and PARTITION not in rows.column_names:
        rows = rows.append_column(PARTITION, pc.cast(rows["captured_at"], pa.date32()))
    columns = [
        rows[field.name].cast(field.type) if field.name in rows.column_names else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)

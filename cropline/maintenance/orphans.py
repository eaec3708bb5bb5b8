"""Removes orphans: crops and packs that no version of the catalogue names, and unfinished files of killed writers.

An object is an orphan when all of this holds:
- No data file in the catalogue's folder names it. Such files belong to a kept version or to a commit in progress; those
  that ``maintain`` has vacuumed no longer count.
- It was written more than ``safe`` ago, and before the oldest open batch began.
- Its photo is not a waiting work item, because a new attempt would write the same key.

DuckDB compares store and catalogue on disk, so that memory does not grow with the number of crops.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.core import keys, storage
from cropline.core.errors import StorageError
from cropline.maintenance.result import CleanupResult
from cropline.maintenance.uploads import end_uploads
from cropline.packs.spool import SHARDS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from cropline.core.store_spec import StoreSpec
    from cropline.state import State

SAFE = timedelta(days=2)
_AT_ONCE = 500
_ROWS_AT_ONCE = 65_536


def remove_orphans(spec: StoreSpec, state: State, *, safe: timedelta, dry_run: bool) -> list[CleanupResult]:
    """Remove orphans. Raise StorageError for a ``safe`` under a day: crops of running batches could be removed."""
    if safe < timedelta(days=1):
        raise StorageError(f"orphans younger than a day may belong to a running batch: {safe} is too short")
    if spec.scheme == "memory":
        return []
    import duckdb

    before = datetime.now(UTC) - safe
    oldest = state.oldest_open_batch()
    if oldest is not None:
        before = min(before, oldest)
    with (
        tempfile.TemporaryDirectory(prefix="cropline-") as folder,
        duckdb.connect(f"{folder}/sweep.duckdb") as database,
    ):
        # Comparing goes on on disk beyond it: 10,000,000 keys took 380 MB in all, and 50 bytes of disk a key.
        database.execute("SET memory_limit = '300MB'")
        _list(spec, database, before)
        # Read after the listing, so that it includes the latest commits.
        _name(spec, database)
        _hold(state, database)
        count, size = database.execute(_COUNT).fetchone() or (0, 0)
        if not dry_run:
            count, size = _remove(spec, database, before)
    unfinished = _unfinished(spec, before)
    if not dry_run:
        for path in unfinished:
            path.unlink(missing_ok=True)
    uploads = end_uploads(spec, before, dry_run=dry_run)
    return [
        CleanupResult("orphans", int(count), int(size)),
        CleanupResult("unfinished files", len(unfinished)),
        *uploads,
    ]


# What lies beside a pack belongs to it. The third and fourth part of a crop's key name its photo.
_ORPHANS = """
    SELECT path, size FROM lying
    WHERE path <> 'shards/current.json'
      AND regexp_replace(regexp_replace(path, '[.]current[.]json$', ''), '^(shards/.*)[.]json$', '\\1.tar') NOT IN (SELECT key FROM named WHERE key IS NOT NULL)
      AND (split_part(path, '/', 1) = 'shards'
           OR split_part(path, '/', 3) || '/' || split_part(path, '/', 4) NOT IN (SELECT photo FROM held))
"""
_COUNT = f"SELECT count(*), coalesce(sum(size), 0) FROM ({_ORPHANS})"  # noqa: S608 - our own text


def _list(spec: StoreSpec, database: DuckDBPyConnection, before: datetime) -> None:
    import obstore
    import pyarrow as pa

    database.execute("CREATE TABLE lying (path VARCHAR, size BIGINT)")
    for prefix in (keys.CROPS, SHARDS):
        try:
            for page in obstore.list(storage.open_store(spec), prefix=prefix, chunk_size=5_000):
                old = [meta for meta in page if meta["last_modified"] < before]
                rows = {"path": [meta["path"] for meta in old], "size": [meta["size"] for meta in old]}
                _insert(
                    database, "lying", pa.table(rows, schema=pa.schema([("path", pa.string()), ("size", pa.int64())]))
                )
        except (OSError, obstore.exceptions.BaseError) as error:
            raise StorageError(f"cannot list {spec.uri(prefix)}: {type(error).__name__}") from error


def _name(spec: StoreSpec, database: DuckDBPyConnection) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    database.execute("CREATE TABLE named (key VARCHAR)")
    for key in storage.list_keys(spec, "catalogue/"):
        if key.endswith(".parquet") and not key.startswith("catalogue/_delta_log/"):
            with storage.open_object(spec, key) as source, pq.ParquetFile(source) as file:
                for name in sorted({"key", "shard"} & set(file.schema_arrow.names)):
                    # Memory: one column, and a part of its rows at a time.
                    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[name]):
                        _insert(database, "named", pa.table({"key": batch[name].cast(pa.string()).unique()}))


def _hold(state: State, database: DuckDBPyConnection) -> None:
    """Add the waiting photos of every source, because the whole store is listed."""
    import pyarrow as pa

    database.execute("CREATE TABLE held (photo VARCHAR)")
    for part in state.images_to_come():
        photos = [keys.image_key(source, image_id) for source, image_id in part]
        _insert(database, "held", pa.table({"photo": pa.array(photos, pa.string())}))


def _insert(database: DuckDBPyConnection, table: str, rows: Any) -> None:
    database.register("told", rows)
    database.execute(f"INSERT INTO {table} SELECT * FROM told")  # noqa: S608 - our own names
    database.unregister("told")


def _remove(spec: StoreSpec, database: DuckDBPyConnection, before: datetime) -> tuple[int, int]:
    found = database.execute(_ORPHANS)
    count = size = 0
    while part := found.fetchmany(_AT_ONCE):
        # Checked again: a file that was rewritten in the meantime is in use.
        still = [(path, size_) for path, size_ in part if storage.written_at(spec, path, before) < before]
        storage.delete(spec, [path for path, _ in still])
        count += len(still)
        size += sum(size_ for _, size_ in still)
    return count, size


def _unfinished(spec: StoreSpec, before: datetime) -> list[Path]:
    """Return unfinished local files of killed processes. Their names end in # and digits, which listings leave out."""
    if spec.local_path is None:
        return []
    return [path for path in _files(spec.local_path) if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before]


def _files(root: Path) -> Iterator[Path]:
    for prefix in (keys.CROPS, SHARDS):
        for path in (root / prefix).rglob("*#*"):
            if path.name.rpartition("#")[2].isdigit():
                yield path

"""Rewrite data files: small ones become large ones, and dead rows go for good. It changes no current row.

Files are read and written a part at a time, so memory does not grow with them. Each commit covers a few files. After a
kill the next call goes on from there; a file that no commit names is vacuumed later.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cropline.catalogue import entries, vectors
from cropline.catalogue.data_files import GROUP_ROWS, DataFileWriter, new_path
from cropline.catalogue.entries import DEAD_SINCE, Entry
from cropline.catalogue.files import LAYOUT, DataFile, Snapshot, actions_of, vector_id
from cropline.catalogue.log import COMPACTION, STEP
from cropline.catalogue.positions import open_file, partition_column
from cropline.catalogue.rows import PARTITION, in_schema
from cropline.core import storage

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = 32 << 20
"""Size (bytes) up to which small files are merged. Removing a photo for good rewrites its whole file."""

_SMALL = TARGET // 2
# Rewriting a file for a few dead rows costs more than its readers save; but superseded crops must not stay for ever.
_DEAD_SHARE = 0.05
_DEAD_FOR = timedelta(days=7)
_BINS_A_COMMIT, _S_A_COMMIT = 16, 60.0
_TRIES = 100


@dataclass(frozen=True)
class Rewritten:
    """Files of one partition and the file that replaces them; None when they hold no current row."""

    files: Sequence[DataFile]
    action: dict[str, Any] | None


def compact(open_snapshot: Callable[[], Snapshot], now: float | None = None) -> None:
    """Merge small files and fold vectors. Commits that rewrite the same files take precedence: their files stay."""
    snapshot = open_snapshot()
    done: list[Rewritten] = []
    since = time.monotonic()
    for files in bins(snapshot.all(), time.time() if now is None else now):
        done.append(rewrite(snapshot, files))
        if len(done) >= _BINS_A_COMMIT or time.monotonic() - since > _S_A_COMMIT:
            _commit(open_snapshot, done)
            done, since = [], time.monotonic()
    _commit(open_snapshot, done)


def bins(files: Sequence[DataFile], now: float) -> Iterator[list[DataFile]]:
    """Yield the files to rewrite as one, of one partition each, in the order of their batches."""
    by_day: dict[str | None, list[DataFile]] = {}
    for file in files:
        by_day.setdefault(file.day, []).append(file)
    for day in sorted(by_day, key=str):
        held: list[DataFile] = []
        for file in sorted(by_day[day], key=_order):
            if not (_folds(file, now) or file.size < _SMALL):
                yield from _worth(held, now)
                held = []
                continue
            if held and sum(each.size for each in held) + file.size > TARGET:
                yield from _worth(held, now)
                held = []
            held.append(file)
        yield from _worth(held, now)


def _worth(held: list[DataFile], now: float) -> Iterator[list[DataFile]]:
    if len(held) > 1 or any(_folds(file, now) for file in held):
        yield held


def _order(file: DataFile) -> tuple[str, str]:
    # Rows of one batch stay together: a re-cropped batch then touches few files.
    return str(file.stats.get("minValues", {}).get("batch_id", "")), file.path


def _folds(file: DataFile, now: float) -> bool:
    """Return whether the file must be rewritten, whatever its size."""
    tags = file.action.get("tags") or {}
    if tags.get(LAYOUT[0]) != LAYOUT[1]:
        return True  # an earlier version of cropline, or another writer, wrote it: no Bloom filters
    if not len(file.dead):
        return False
    if len(file.dead) >= _DEAD_SHARE * file.stats.get("numRecords", 0):
        return True
    return now - int(tags.get(DEAD_SINCE, 0)) / 1000 > _DEAD_FOR.total_seconds()


def rewrite(
    snapshot: Snapshot,
    files: Sequence[DataFile],
    gone: dict[str, vectors.Positions] | None = None,
    *,
    data_change: bool = False,
) -> Rewritten:
    """Write the files' rows into one new file, without dead ones and those in ``gone`` (positions by path)."""
    day = date.fromisoformat(files[0].day) if files[0].day else None
    with tempfile.TemporaryDirectory(prefix="cropline-") as folder:
        target, written = Path(folder) / "part.parquet", 0
        rows = sum(int(file.stats.get("numRecords", GROUP_ROWS)) for file in files)
        writer = DataFileWriter(target, snapshot.schema, day, rows=rows, compression="zstd")
        for file in files:
            drop = file.dead
            if gone is not None and file.path in gone:
                drop = np.union1d(drop, gone[file.path]).astype(np.uint32)
            for part in _parts(snapshot, file, drop):
                writer.write(part)
                written += len(part)
        writer.close()
        if not written:
            return Rewritten(files, None)
        path = new_path(day)
        storage.write(snapshot.spec, path, target)
        return Rewritten(files, writer.action(path, target.stat().st_size, data_change=data_change))


def _parts(snapshot: Snapshot, file: DataFile, drop: vectors.Positions) -> Iterator[pa.Table]:
    """Yield a file's rows (CATALOGUE) without some positions."""
    start = 0
    with open_file(snapshot.spec, file) as parquet:
        for batch in parquet.iter_batches(GROUP_ROWS, use_threads=False):
            first, last = np.searchsorted(drop, [start, start + len(batch)])
            rows = pa.Table.from_batches([batch])
            rows = in_schema(rows.append_column(PARTITION, partition_column(file, len(rows))), snapshot.schema)
            if last > first:
                kept = np.ones(len(batch), np.bool_)
                kept[drop[first:last].astype(np.int64) - start] = False
                rows = rows.filter(pa.array(kept))
            start += len(batch)
            yield rows


def _commit(open_snapshot: Callable[[], Snapshot], done: Sequence[Rewritten]) -> None:
    """Commit what was rewritten, as far as its files are still current."""
    from deltalake.exceptions import CommitFailedError

    for attempt in range(_TRIES):
        snapshot = open_snapshot()
        done = _still_current(snapshot, done)
        if not done:
            return
        removed = [entries.removed(file, data_change=False) for each in done for file in each.files]
        added = entries.added([each.action for each in done if each.action is not None])
        try:
            entries.put(snapshot, Entry("OPTIMIZE", [*removed, *added], info={STEP: COMPACTION}))
        except CommitFailedError:
            if attempt == _TRIES - 1:
                raise
        else:
            return


def _still_current(snapshot: Snapshot, done: Sequence[Rewritten]) -> list[Rewritten]:
    paths = {file.path for each in done for file in each.files}
    now = actions_of(snapshot.spec, snapshot.version, paths) if paths else {}
    return [
        each
        for each in done
        if all(file.path in now and vector_id(now[file.path]) == vector_id(file.action) for file in each.files)
    ]

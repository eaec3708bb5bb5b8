"""Remove rows: those of erased photos for good, from every file that holds them; those past their retention by vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue import entries
from cropline.catalogue.compaction import Rewritten, rewrite
from cropline.catalogue.entries import Entry
from cropline.catalogue.files import DataFile, Ranges, Snapshot
from cropline.catalogue.log import DELETE, STEP
from cropline.catalogue.positions import Found, Wanted, holds_any, locate, open_file, rows_of
from cropline.catalogue.vectors import Positions

EXPIRED = ("source", "image_id", "key", "shard", "bytes")
_FILES_AT_ONCE = 2  # each takes 100 MB; Arrow reads and writes them at the same time
# A commit that changes one of the files makes all of them be rewritten again.
_FILES_A_COMMIT = 32
_ROWS_A_COMMIT = 100_000  # at least, when there are as many; they are in memory at once


def forget(snapshot: Snapshot, images: dict[str, set[str]]) -> tuple[int, bool]:
    """Remove rows of these images (source -> ids), dead ones too, from some files. Return the version, and if it was all."""
    wanted = Wanted(images)
    every = locate(snapshot, wanted, dead=True)
    found = every[:_FILES_A_COMMIT]
    if not found:
        return snapshot.version, True

    def without(part: Found) -> Rewritten:
        return rewrite(snapshot, [part.file], {part.file.path: part.positions}, data_change=True)

    with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="catalogue") as pool:
        done = list(pool.map(without, found))
    removed = [entries.removed(part.file, data_change=True) for part in found]
    added = entries.added([each.action for each in done if each.action is not None])

    def may_follow(files: Sequence[DataFile]) -> bool:
        return not holds_any(snapshot.spec, files, wanted, dead=True)

    entry = Entry("DELETE", [*removed, *added], info={STEP: DELETE}, may_follow=may_follow)
    return entries.put(snapshot, entry), len(found) == len(every)


def expire(snapshot: Snapshot, profile: str, before: datetime, none_left: set[str]) -> pa.Table | None:
    """Bury some of a profile's rows that were committed before a time. Return them (EXPIRED); None without any.

    ``none_left``: paths of files that hold none, which are not read again. It is added to.
    """
    parts: list[tuple[Found, pa.Table]] = []
    for part in expired(snapshot, profile, before, none_left):
        parts.append(part)
        if sum(len(rows) for _, rows in parts) >= _ROWS_A_COMMIT:
            break
    if not parts:
        return None
    actions = [
        action
        for found, _ in parts
        for action in entries.with_dead_rows(found.file, found.positions, found.file.rows(snapshot.spec))
    ]
    # Rows that others add meanwhile are newer, or of a file that changed.
    entries.put(snapshot, Entry("DELETE", actions, info={STEP: DELETE}, may_follow=lambda _: True))
    none_left.update(found.file.path for found, _ in parts)
    return pa.concat_tables([rows for _, rows in parts])


def expired(
    snapshot: Snapshot, profile: str, before: datetime, none_left: set[str]
) -> Iterator[tuple[Found, pa.Table]]:
    """Yield a profile's current rows that were committed before a time, file by file, with their EXPIRED columns.

    ``none_left``: see expire.
    """
    wanted = Ranges({"profile": [profile]})
    for file in snapshot.all():
        if file.path in none_left:
            continue
        found = _expired_in(snapshot, file, profile, before) if file.may_hold(wanted) else None
        if found is not None and found.groups:
            yield found, rows_of(snapshot, [found], EXPIRED)
        else:
            none_left.add(file.path)


def _expired_in(snapshot: Snapshot, file: DataFile, profile: str, before: datetime) -> Found:
    groups: dict[int, tuple[int, Positions]] = {}
    start = 0
    with open_file(snapshot.spec, file) as parquet:
        for group in range(parquet.metadata.num_row_groups):
            rows = parquet.read_row_group(group, columns=["profile", "committed_at"], use_threads=False)
            old = pc.and_(pc.equal(rows["profile"].cast(pa.string()), profile), pc.less(rows["committed_at"], before))
            held = np.flatnonzero(pc.fill_null(old, False).to_numpy(zero_copy_only=False)) + start
            positions: Positions = held[~np.isin(held, file.dead)].astype(np.uint32)
            if len(positions):
                groups[group] = (start, positions)
            start += len(rows)
    return Found(file, groups, {})

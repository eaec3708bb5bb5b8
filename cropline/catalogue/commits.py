"""The parts of a batch's commit: its app transaction, the rows that it replaces, and the write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue import entries, pack_places
from cropline.catalogue.data_files import write_rows
from cropline.catalogue.entries import Entry
from cropline.catalogue.failed_recrops import stay
from cropline.catalogue.files import DataFile, Snapshot
from cropline.catalogue.log import STEP
from cropline.catalogue.positions import Found, Wanted, holds_any, locate, names_shard, rows_of
from cropline.catalogue.rows import ImageProfile, equalling, naming, scan

if TYPE_CHECKING:
    from deltalake import DeltaTable


def transaction(table: DeltaTable, batch_id: str, attempt: int = 2) -> int | None:
    """Return the app transaction of a batch (see table.py); None when the table does not know the batch.

    App transactions are kept for 90 days. A batch that is resumed (``attempt`` > 1) later than that is found
    by its rows; 0 means a commit that can no longer be looked up.
    """
    known: int | None = table.transaction_version(batch_id)
    if known is None and attempt > 1 and len(scan(table, equalling(batch_id=batch_id), ["batch_id"])):
        return 0
    return known


def put_batch(
    snapshot: Snapshot,
    rows: pa.Table,
    found: Sequence[Found],
    *,
    batch_id: str,
    attempt: int,
    works: Collection[ImageProfile],
) -> tuple[int, pa.Table]:
    """Commit a batch: append its rows and mark those that were found as dead, in one commit.

    ``works``: its work items. Commits that bring no rows of these may come first. Return the version and the rows (CATALOGUE)
    that it appended: good rows that stay, and crops that moved to another pack, differ from ``rows``.
    """
    replaced = {work for part in found for work in part.all_works()}
    failing = works_of(rows.filter(pc.field("status") == "failed")) & replaced
    kept = stay(rows, rows_of(snapshot, _only(found, failing))) if failing else rows
    placed = pack_places.with_current_places(snapshot, kept, batch_id, found)
    info = {"cropline.batch": batch_id, "cropline.attempt": attempt, "cropline.rows": len(rows)}
    wanted = Wanted.of_works({*works, *works_of(rows)})

    def may_follow(files: Sequence[DataFile]) -> bool:
        return not holds_any(snapshot.spec, files, wanted)

    entry = _entry(snapshot, placed, found, info)
    entry = replace(entry, txn=(batch_id, snapshot.version), may_follow=may_follow)
    return entries.put(snapshot, entry), placed


def fence(snapshot: Snapshot, batch_id: str, attempt: int) -> int:
    """Commit a fence: no earlier attempt can commit the batch from now on. Return the version."""
    info = {"cropline.batch": batch_id, "cropline.attempt": attempt, "cropline.rows": 0}
    txn = (batch_id, -attempt)
    return entries.put(snapshot, Entry("WRITE", (), {"mode": "Append"}, info, txn, may_follow=lambda _: True))


def put_mended(snapshot: Snapshot, rows: pa.Table, found: Sequence[Found]) -> int:
    """Commit rows in place of those that were found, which were duplicated. Return the version."""
    return entries.put(snapshot, _entry(snapshot, rows, found, {STEP: "mend"}))


def put_moved(snapshot: Snapshot, rows: pa.Table, found: Sequence[Found], shard: str) -> int:
    """Commit rows in place of those that were found: their crops moved from ``shard`` to another pack. Return the version."""

    def may_follow(files: Sequence[DataFile]) -> bool:
        return not names_shard(snapshot.spec, files, shard)

    actions = [*_marking_dead(snapshot, found), *entries.added(write_rows(snapshot.spec, rows) if len(rows) else [])]
    # It names no images in the log: their history does not change.
    entry = Entry("WRITE", actions, {"mode": "Overwrite"}, {STEP: "rewrite a pack"}, may_follow=may_follow)
    return entries.put(snapshot, entry)


def _entry(snapshot: Snapshot, rows: pa.Table, found: Sequence[Found], info: dict[str, Any]) -> Entry:
    """Write rows (CATALOGUE) into new files. Return the commit that adds them and marks those that were found as dead.

    The table has the rows' columns already.
    """
    added = entries.added(write_rows(snapshot.spec, rows)) if len(rows) else []
    replaced = {work for part in found for work in part.all_works()}
    parameters = {"mode": "Overwrite", "predicate": naming(replaced)} if replaced else {"mode": "Append"}
    return Entry("WRITE", [*_marking_dead(snapshot, found), *added], parameters, info)


def _marking_dead(snapshot: Snapshot, found: Sequence[Found]) -> list[dict[str, Any]]:
    return [
        action
        for part in found
        for action in entries.with_dead_rows(part.file, part.positions, part.file.rows(snapshot.spec))
    ]


def works_of(rows: pa.Table) -> set[ImageProfile]:
    """Return the work items of these rows."""
    return set(zip(*(rows[name].to_pylist() for name in ("source", "image_id", "profile")), strict=True))


def located(snapshot: Snapshot, works: Collection[ImageProfile], batches: Collection[str] | None = None) -> list[Found]:
    """Return where the current rows of some work items are. ``batches``: those that committed them, where known."""
    return locate(snapshot, Wanted.of_works(works, batches))


def _only(found: Sequence[Found], works: Collection[ImageProfile]) -> list[Found]:
    return [part for whole in found if (part := whole.only(works)) is not None]

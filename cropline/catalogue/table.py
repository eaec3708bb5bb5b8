"""The catalogue: append a batch once, fence stale attempts, read rows.

A batch's id is a Delta app id. The version of its app transaction is the batch's status in the table:
``>= 0``  the table holds the batch. The number is the table version that the commit was built on; the commit is a later one.
``< 0``   the table does not hold the batch, and it is fenced: only attempts from ``-version`` on may commit it.
Of two concurrent commits with one app id, only one succeeds. So a batch is never appended twice, and never by an
attempt that lost its lease.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from cropline.catalogue import commits, delta, duplicates, history, maintenance, removal, versions
from cropline.catalogue.failed_recrops import newest
from cropline.catalogue.files import Snapshot
from cropline.catalogue.history import PastRows
from cropline.catalogue.log import Memory, commit_of, has_unknown_commits
from cropline.catalogue.positions import Wanted, locate, row_of_crop, rows_of, rows_of_image
from cropline.catalogue.rows import (
    CATALOGUE,
    ImageProfile,
    captured_before,
    columns_of,
    equalling,
    of_stores,
    scan,
    streamed,
    to_catalogue,
)
from cropline.catalogue.versions import Version, VersionRows, zoned
from cropline.core.errors import CatalogueError, StaleLease
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

T = TypeVar("T")

_TRIES = 100


@dataclass(frozen=True)
class Appended:
    """``version``: the table version that holds the batch. ``appended`` False: it held it before; read batch_rows.

    ``rows`` (CATALOGUE): the appended rows. Reused crops have their place at that time (see pack_places.py).
    ``unknown_batches``: batches that the state does not know were committed since its last check.
    """

    version: int
    appended: bool
    rows: pa.Table | None = None
    unknown_batches: bool = False


class Catalogue:
    """The Delta table below a storage root. It holds no connection; every call sees the newest version.

    All methods raise CatalogueError when the table cannot be read or written, StorageError when its store fails.
    """

    def __init__(self, root: StoreSpec) -> None:
        self._root = root
        self._spec = delta.table_spec(root)

    @property
    def uri(self) -> str:
        """The table's address, for people and for lineage. Spark and DuckDB accept it unchanged."""
        return self._spec.url

    def append(
        self,
        crops: pa.Table,
        *,
        batch_id: str,
        attempt: int,
        flow_run: str,
        committed_at: datetime,
        superseding: Collection[ImageProfile] = (),
        works: Collection[ImageProfile] = (),
        committed_in: Collection[str] | None = None,
        memory: Memory | None = None,
    ) -> Appended:
        """Append a batch's rows (CROPS) and remove the rows that they supersede, in one commit, once.

        ``superseding``: work items of the batch that the table holds, according to the state. ``works``: all of its work
        items; they are also looked up in the table when ``memory`` does not cover all commits. ``committed_in``: the batches
        that committed the superseded rows, where the state knows; few files hold them.
        A failure never removes a good row (see failed_recrops.py).

        Safe when many processes do the same at once, and after a lost reply. Raise StaleLease when a later attempt has fenced it.
        """
        rows = to_catalogue(
            crops, batch_id=batch_id, attempt=attempt, flow_run=flow_run, committed_at=zoned(committed_at)
        )

        def commit(table: DeltaTable) -> Appended:
            unknown = memory is not None and has_unknown_commits(self._spec, memory, table.version())
            known = commits.transaction(table, batch_id, attempt)
            if known is not None and known >= 0:
                version = commit_of(self._spec, batch_id, known, table.version()).version or table.version()
                return Appended(version, False, unknown_batches=unknown)
            if known is not None and -known > attempt:
                raise StaleLease(f"batch {batch_id}: attempt {attempt} lost its lease to attempt {-known}")
            if delta.lacks_columns(table, rows.schema):
                # The new columns are a commit of their own, which changes no row. Then start again on the new version.
                return commit(delta.add_columns(delta.open_or_create(self._spec), rows.schema))
            look = unknown or (memory is not None and memory.unknown_batches)
            snapshot = Snapshot(self._spec, table)
            found = commits.located(
                snapshot, {*superseding, *works} if look else superseding, None if look else committed_in
            )
            version, placed = commits.put_batch(
                snapshot, rows, found, batch_id=batch_id, attempt=attempt, works={*superseding, *works}
            )
            if memory is not None and not unknown:  # others may have come between
                unknown = has_unknown_commits(self._spec, replace(memory, until=snapshot.version), version - 1)
            return Appended(version, True, placed, unknown)

        with delta.catalogue_errors("write", self._spec):
            return self._until_committed(commit)

    def fence(self, batch_id: str, attempt: int) -> bool:
        """Fence the batch: no earlier attempt can append it from now on. Return True when the table holds it already.

        Call it first when a batch is taken over.
        """

        def commit(table: DeltaTable) -> bool:
            known = commits.transaction(table, batch_id, attempt)
            if known is not None and known >= 0:
                return True
            if known is not None and -known > attempt:
                raise StaleLease(f"batch {batch_id}: attempt {attempt} lost its lease to attempt {-known}")
            if known != -attempt:
                commits.fence(Snapshot(self._spec, table), batch_id, attempt)
            return False

        with delta.catalogue_errors("write", self._spec):
            return self._until_committed(commit)

    def _until_committed(self, commit: Callable[[DeltaTable], T]) -> T:
        """Retry on the newest version until no other writer was faster. Each lost race is another writer's progress."""
        from deltalake.exceptions import CommitFailedError

        for attempt in range(_TRIES):
            try:
                return commit(delta.open_or_create(self._spec))
            except CommitFailedError:
                if attempt == _TRIES - 1:
                    raise
            time.sleep(random.uniform(0, min(0.02 * 2**attempt, 1)))  # noqa: S311  # spreads racing writers
        raise AssertionError("unreachable")

    def batch_rows(self, batch_id: str) -> pa.Table | None:
        """Return the rows (CATALOGUE) that the batch appended, or None when it was never committed.

        Rows that were superseded since are read from the version that committed them, unless maintenance has
        vacuumed them. It reads only the batch's files, as far as their statistics allow.
        """
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
            known = commits.transaction(table, batch_id) if table is not None else None
            if table is None or known is None or known < 0:
                return None
            rows = scan(table, equalling(batch_id=batch_id))
            commit = commit_of(self._spec, batch_id, known, table.version())
            if commit.version is None or commit.rows == len(rows):
                return rows
            wanted = equalling(batch_id=batch_id)
            then = history.at(self._spec, commit.version, lambda then: scan(then.table, wanted))
            return rows if then is None else then

    def image_rows(self, source: str, image_id: str) -> pa.Table:
        """Return the current rows (CATALOGUE) of one image, for all profiles; no rows for an unknown image."""
        return self.images_rows(source, [image_id])

    def image_history(self, source: str, image_id: str, *, current: pa.Table | None = None) -> list[PastRows]:
        """Return the image's rows over time, newest first: the current ones, then those that each commit superseded.

        ``current``: the current rows, when the caller has them. The history ends where log and files end (30 days, see maintain).
        """
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
            if table is None:
                return []
            if current is None:
                current = rows_of_image(Snapshot(self._spec, table), source, image_id)
            past = history.of_image(self._spec, table, source, image_id)
            return [*([PastRows(current, None)] if len(current) else []), *past]

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the row of one crop, by object key or full address; None when no row has it.

        ``superseded_in``, besides the columns: the table version since which it is no longer current, or None.
        """
        key = key.removeprefix(self._root.uri(""))
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
            if table is None:
                return None
            current = row_of_crop(Snapshot(self._spec, table), key)
            held = PastRows(current, None) if len(current) else history.of_crop(self._spec, table, key)
            return None if held is None else {**held.rows.to_pylist()[0], "superseded_in": held.superseded_in}

    def rows(self, *, columns: Sequence[str] | None = None, version: int | None = None, **equal: str) -> pa.Table:
        """Return the rows whose columns equal some texts, at the newest or the given version. No rows without a table."""
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec, version=version)
            if table is None:
                return CATALOGUE.empty_table().select(list(columns) if columns is not None else CATALOGUE.names)
            return scan(table, equalling(**equal) if equal else None, columns)

    def images_rows(
        self,
        source: str,
        image_ids: Collection[str],
        *,
        committed_in: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Return the current rows (CATALOGUE, or some of its columns) of some images of a source, for all profiles.

        ``committed_in``: where rows of these batches are. Few files hold them.
        """
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
            if table is None or not image_ids:
                return CATALOGUE.empty_table() if columns is None else CATALOGUE.empty_table().select(list(columns))
            batches = None if committed_in is None else frozenset(committed_in)
            wanted = Wanted({source: set(image_ids)}, batches=batches)
            snapshot = Snapshot(self._spec, table)
            return rows_of(snapshot, locate(snapshot, wanted), columns)

    def shard_rows(self, shard: str) -> pa.Table:
        """Return the current rows (CATALOGUE) of the crops in a pack."""
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
            return CATALOGUE.empty_table() if table is None else scan(table, equalling(shard=shard))

    def rewrite_shard(self, shard: str, rewrite: Callable[[pa.Table], pa.Table]) -> None:
        """Replace a pack's current rows by the result of ``rewrite``, in one commit.

        It is called again when another writer was faster. Its rows all name the same other pack, or there are none.
        """

        def commit(table: DeltaTable) -> None:
            rows = scan(table, equalling(shard=shard))
            if not len(rows):
                return
            snapshot, rewritten = Snapshot(self._spec, table), rewrite(rows)
            found = commits.located(snapshot, commits.works_of(rows), rows["batch_id"].unique().to_pylist())
            found = [part for whole in found if (part := whole.in_shard(snapshot, shard)) is not None]
            commits.put_moved(snapshot, rewritten, found, shard)

        with delta.catalogue_errors("write", self._spec):
            if delta.open_table(self._spec) is not None:
                self._until_committed(commit)

    def expired(self, profile: str, before: datetime) -> Iterator[pa.Table]:
        """Yield a profile's current rows that were committed before a time, in parts (removal.EXPIRED)."""
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
            if table is not None:
                found = removal.expired(Snapshot(self._spec, table), profile, zoned(before), set())
                yield from (rows for _, rows in found)

    def images_of(self, source: str, stores: Sequence[str], before: datetime | None) -> set[str]:
        """Return the ids of a source's images with rows of some stores, or captured before a time."""
        predicate = of_stores(source, stores) if before is None else captured_before(source, zoned(before))
        with delta.catalogue_errors("read", self._spec):
            table, found = delta.open_table(self._spec), set[str]()
            for ids in streamed(table, predicate, "image_id") if table is not None else ():
                found.update(ids.unique().to_pylist())
            return found

    def expire(self, profile: str, before: datetime) -> Iterator[pa.Table]:
        """Remove the rows that ``expired`` yields, and yield them: each part when a commit has removed it."""
        none_left: set[str] = set()

        def commit(table: DeltaTable) -> pa.Table | None:
            return removal.expire(Snapshot(self._spec, table), profile, zoned(before), none_left)

        with delta.catalogue_errors("write", self._spec):
            while delta.open_table(self._spec) is not None:
                rows = self._until_committed(commit)
                if rows is None:
                    return
                yield rows

    def forget_images(self, source: str, image_ids: Collection[str]) -> int | None:
        """Delete the rows of these images, also those that are no longer current, in one commit or several.

        Return the version without them; None without a table. Earlier versions hold them until ``maintain`` has vacuumed them.
        """
        with delta.catalogue_errors("write", self._spec):
            if delta.open_table(self._spec) is None:
                return None
            images, whole = {source: set(image_ids)}, False
            while not whole:
                version, whole = self._until_committed(
                    lambda table: removal.forget(Snapshot(self._spec, table), images)
                )
            return version

    def read_version(self, version: Version | None = None, columns: Sequence[str] | None = None) -> VersionRows:
        """Return one version of the table, to be read as a stream; by default the newest, with all columns.

        Raise CatalogueError when there is no table or no such version.
        """
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
            if table is None:
                raise CatalogueError(f"there is no catalogue yet at {self._spec.url}")
            newest = int(table.version())
            number = versions.resolve(self._spec, newest, version)
            if number != newest:
                table = delta.open_table(self._spec, version=number) or table
            # Not a pyarrow dataset, which cannot leave out the dead rows of a file.
            rows = pa.RecordBatchReader.from_stream(table.scan(list(columns) if columns else None))
            return VersionRows(number, versions.committed_at(self._spec, number), rows)

    def columns(self) -> pa.Schema:
        """Return CATALOGUE, then the columns of users that the table has."""
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
            return CATALOGUE if table is None else columns_of(table)

    def own_columns(self) -> pa.Schema:
        """Return the table's columns of users only."""
        return pa.schema([field for field in self.columns() if field.name not in CATALOGUE.names])

    def version(self) -> int | None:
        """The newest version, from 0; None when there is no table yet."""
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
            return None if table is None else int(table.version())

    def maintain(
        self,
        *,
        compact: bool = True,
        vacuum_after: timedelta | None = timedelta(days=30),
        checkpoint: bool = True,
        dry_run: bool = False,
    ) -> maintenance.MaintenanceResult:
        """Merge small files, remove dead rows from files, delete old files, and shorten the log.

        Files that a version younger than ``vacuum_after`` reads are kept (None: keep all). Safe beside
        commits; a commit that changes the same files takes precedence. dry_run only counts.

        Raise CatalogueError also when ``vacuum_after`` is under a day: running commits could lose their files.
        """
        maintenance.check_vacuum(vacuum_after)
        with delta.catalogue_errors("maintain", self._spec):
            return self._until_committed(
                lambda _: maintenance.maintain(self._spec, compact, vacuum_after, checkpoint, dry_run)
            )

    def unknown_batches(self, memory: Memory) -> tuple[int, bool] | None:
        """Return (newest version, whether other installations committed since the last check); None without a table."""
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
            return (
                None if table is None else (table.version(), has_unknown_commits(self._spec, memory, table.version()))
            )

    def remove_duplicates(self, *, dry_run: bool = False) -> int:
        """Remove duplicate rows that batches of several states left.

        The newest rows of each work item are kept, and of a box the good one. Return how many were removed,
        or would be with ``dry_run``. Reads four columns of the whole table.
        """

        def mend(table: DeltaTable, works: set[ImageProfile]) -> int:
            snapshot = Snapshot(self._spec, table)
            found = commits.located(snapshot, works)
            held = rows_of(snapshot, found)
            right = newest(held)
            if not dry_run and len(right) < len(held):
                commits.put_mended(snapshot, right, found)
            return len(held) - len(right)

        with delta.catalogue_errors("maintain", self._spec):
            table = delta.open_table(self._spec)
            found = duplicates.duplicated(table) if table is not None else []
            return sum(self._until_committed(partial(mend, works=works)) for works in duplicates.portions(found))

"""The state: one object with every operation that the steps and the CLI use. The SQL is in the module of each verb."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cropline.config.state import StateSettings
from cropline.state import (
    backfills,
    backlog,
    batches,
    binding,
    deletions,
    metrics,
    moved_out,
    outbox,
    read_files,
    recent,
    register,
    reports,
    requeue,
    runs,
    tombstones,
)
from cropline.state import commit as commits
from cropline.state import copy as copies
from cropline.state.database import Clock, Database
from cropline.state.metrics import StateMetrics
from cropline.state.migrations import migrate
from cropline.state.model import (
    BackfillStart,
    BacklogSample,
    Batch,
    BatchState,
    Bound,
    Committed,
    Counts,
    Erasure,
    Event,
    ExpiredRun,
    ImageState,
    Outcome,
    ReasonCount,
    Recrop,
    Registered,
    Registration,
    StateReport,
    WorkState,
)
from cropline.state.moved_out import MovedPhotos
from cropline.state.queue import ClaimRequest, as_names

if TYPE_CHECKING:
    import pyarrow as pa


class State:
    """The state table. Threads may share it; every process opens its own. All calls raise StateError when it is down.

    After a StateError the same call may be repeated on the same object: it connects again. Each change happened completely
    or not at all, and repeating a change that happened does nothing.
    """

    def __init__(self, database: Database, settings: StateSettings) -> None:
        self._database = database
        self._settings = settings

    @classmethod
    def open(cls, settings: StateSettings, *, clock: Clock | None = None) -> Self:
        """Connect and bring the schema up to date. ``clock`` replaces the time, for tests.

        Raise StateError when the database cannot be used, SchemaTooNew when a newer cropline migrated it.
        """
        database = Database(settings.url.get_secret_value(), clock)
        try:
            migrate(database)
        except BaseException:
            database.close()
            raise
        return cls(database, settings)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def bind(self, storage: str, source: str, api: str | None) -> None:
        """Bind to this storage and the source to its API; the first run decides. Raise StateError for another."""
        binding.bind(self._database, storage, source, api)

    def move(self, source: str, *, storage: str | None = None, api: str | None = None) -> None:
        """Bind to another storage, or the source to another API, from now on."""
        binding.move(self._database, storage, source, api)

    def bound(self) -> Bound:
        """Return what it is bound to, and what it remembers of the catalogue."""
        return binding.bound(self._database)

    def known_batches(self, batch_ids: Collection[str]) -> set[str]:
        """Return those of the batches that this state made."""
        return binding.known_batches(self._database, batch_ids)

    def remember_catalogue(self, version: int, *, unknown_batches: bool) -> None:
        """Record that every commit of the catalogue up to this version was checked; ``commit`` also records its own."""
        with self._database.atomic() as connection:
            binding.remember(connection, version, unknown_batches=unknown_batches)

    def duplicates_checked(self) -> None:
        """Record that the catalogue was searched for duplicated work items, and none is left."""
        binding.duplicates_checked(self._database)

    def cursor(self, source: str) -> str | None:
        """Return the last saved poll position, ISO 8601 in UTC: the greatest updated_at. None before the first poll."""
        return register.cursor(self._database, source)

    def quiet_for(self, source: str) -> timedelta | None:
        """Return how long the source's API must not be called yet, as it asked; None when it may be called."""
        return register.quiet_for(self._database, source)

    def keep_quiet(self, source: str, wait: timedelta) -> None:
        """Record that the source's API asked for a pause of ``wait``."""
        register.keep_quiet(self._database, source, wait)

    def unseen(self, source: str, digests: Sequence[str]) -> set[str]:
        """Return the digests that were not landed within the overlap window."""
        return recent.unseen(self._database, source, digests)

    def unread_files(self, source: str, files: Mapping[str, str]) -> set[str]:
        """Return the names of those files (name -> version) that no poll has read in this version."""
        return read_files.unread(self._database, source, files)

    def remember_files(self, source: str, files: Mapping[str, str], list_after: str | None = None) -> None:
        """Record files as read. ``list_after``: files up to this name are never listed again."""
        read_files.remember(self._database, source, files, list_after)

    def list_after(self, source: str) -> str | None:
        """Return the name up to which all files of a source were read."""
        return read_files.list_after(self._database, source)

    def readdressed(self, source: str, addresses: Mapping[str, tuple[str, str]]) -> set[str]:
        """Return the items (by digest: image id, address digest) with a new address that their work item needs."""
        return register.readdressed(self._database, source, addresses)

    def register(self, registration: Registration) -> Registered:
        """Register a manifest: store work items, cursor, items and events, all of it once, or nothing.

        Raise MovedOut when photos of it left the table meanwhile (pipeline/known_photos.py looks them up first).
        """
        return register.register(self._database, registration)

    def manifest_registered(self, manifest: str) -> bool:
        """Return whether this manifest (a storage key) was registered."""
        return register.manifest_registered(self._database, manifest)

    def claim(
        self,
        *,
        limit: int,
        owner: str,
        source: str | Sequence[str] | None = None,
        profiles: Sequence[str] | None = None,
        images: Sequence[str] | None = None,
    ) -> Batch | None:
        """Lease a batch: a whole stale one, even above the limit; else up to ``limit`` images, newest captured first.

        Due retries get a tenth of a batch and the places that new images leave free. Return None when there is no work.
        The source, of those named or of all, whose last batch is the oldest has its turn.
        ``images`` (ids) claims only these and no stale batch, so that a backfill does only its own work.
        """
        request = ClaimRequest(limit, owner, as_names(source), profiles, self.lease, images)
        return batches.claim(self._database, request)

    def resume(self, *, owner: str, source: str | None = None) -> Batch | None:
        """Lease a whole stale batch; None when there is none. ``claim`` does the same first."""
        request = ClaimRequest(0, owner, as_names(source), None, self.lease)
        return batches.resume(self._database, request)

    def has_work(self, source: str | Sequence[str] | None = None) -> bool:
        """Return whether a claim would find work now. Takes no lock: an idle poll needs only this one query."""
        return batches.has_work(self._database, as_names(source))

    def renew(self, batch: Batch) -> None:
        """Renew the lease for lease_s from now. Raise StaleLease when another attempt owns the batch."""
        batches.renew(self._database, batch, self.lease)

    def readdress(self, batch: Batch, moved: Mapping[tuple[str, int], tuple[str, int]]) -> None:
        """Move the places of the batch's images: place (manifest, row) -> place. Raise StaleLease."""
        batches.readdress(self._database, batch, moved)

    def release(self, batch: Batch, reason: str) -> None:
        """Release a batch that cannot be finished: the next claim resumes it at once. Raise StaleLease."""
        batches.release(self._database, batch, reason)

    def commit(
        self,
        batch: Batch,
        outcomes: pa.Table | Iterable[Outcome],
        *,
        counts: Counts,
        catalogue_version: int | None,
        events: Sequence[Event] = (),
        unknown_batches: bool = False,
    ) -> Committed:
        """End a batch, once: work items, batch and outbox in one transaction. ``outcomes``: OUTCOMES, one for each work item.

        ``unknown_batches``: up to ``catalogue_version`` the catalogue holds commits of batches that are unknown here.

        Raise StaleLease when another attempt owns it, NotReconciled when outcomes or counts do not match its work items.
        """
        request = commits.CommitRequest(outcomes, counts, catalogue_version, events, unknown_batches)
        settings = self._settings
        retries = commits.Retries(
            settings.max_attempts, timedelta(seconds=settings.backoff_s), timedelta(seconds=settings.backoff_cap_s)
        )
        return commits.commit(self._database, batch, request, retries)

    def enqueue_events(self, events: Sequence[Event]) -> None:
        """Put events into the outbox. Duplicate events are ignored."""
        outbox.enqueue_events(self._database, events)

    def begin_run(self, flow_run: str, start: Event) -> None:
        """Store a flow run and its START event, with a lease of lease_s."""
        runs.begin(self._database, flow_run, start, self.lease)

    def renew_run(self, flow_run: str) -> None:
        """Renew the run's lease for lease_s from now. Raise StaleLease when the run was ended."""
        runs.renew(self._database, flow_run, self.lease)

    def end_run(self, flow_run: str, events: Sequence[Event], *, expired_only: bool = False) -> bool:
        """Enqueue a flow run's end, once. Return False when it has ended, or (``expired_only``) renewed its lease."""
        return runs.end(self._database, flow_run, events, expired_only=expired_only)

    def note_flow_end(self, flow: str, deployment: str | None, status: str) -> None:
        """Record how a run of a flow ended (COMPLETE, FAIL or ABORT), for monitoring."""
        runs.note_end(self._database, flow, deployment or "", status)

    def metrics(self, *, window: timedelta) -> StateMetrics:
        """Return the figures for monitoring; committed batches are added up over the last ``window``."""
        return metrics.metrics(self._database, window=window)

    def reasons(self) -> list[ReasonCount]:
        """Return the work items that ended badly by state and reason. Its cost grows with their number."""
        return reports.reasons(self._database)

    def expired_runs(self) -> list[ExpiredRun]:
        """Return unfinished flow runs whose lease has expired: they were killed."""
        return runs.expired(self._database)

    def pending_events(self, limit: int) -> list[Event]:
        """Return the next events to publish."""
        return outbox.pending_events(self._database, limit)

    def mark_published(self, event_ids: Sequence[str]) -> None:
        """Mark these events as published."""
        outbox.mark_published(self._database, event_ids)

    def mark_arrived(self, arrived: Mapping[str, Sequence[str]]) -> None:
        """Record the transports that have each event (by id); it still waits for the others."""
        outbox.mark_arrived(self._database, arrived)

    def mark_publish_failed(self, event_ids: Sequence[str], error: str) -> None:
        """Record that publishing these events failed; ``error`` is one scrubbed line."""
        outbox.mark_publish_failed(self._database, event_ids, error)

    def report(self, *, last_batches: int = 10) -> StateReport:
        """Return a summary of the state table. Its cost does not grow with finished work."""
        return reports.report(self._database, last_batches=last_batches)

    def image(self, source: str, image_id: str) -> list[ImageState]:
        """Return the work items of one image, by profile."""
        return reports.image(self._database, source, image_id)

    def batch(self, batch_id: str) -> BatchState | None:
        """Return one batch, or None."""
        return reports.batch(self._database, batch_id)

    def recipe(self, profile_hash: str) -> str | None:
        """Return the recipe (JSON) that was registered under a hash; None when the hash is unknown."""
        return reports.recipe(self._database, profile_hash)

    def recrops(self, source: str, profile: str, profile_hash: str) -> Recrop:
        """Return what a profile's current recipe would cut again or for the first time. Reads all work items."""
        return reports.recrops(self._database, source, profile, profile_hash)

    def oldest_open_batch(self) -> datetime | None:
        """Return when the oldest open batch was made; None when none is open."""
        return reports.oldest_open_batch(self._database)

    def images_to_come(self) -> Iterator[list[tuple[str, str]]]:
        """Yield (source, image id) of pending, claimed and failed work items in portions, each image once."""
        return reports.images_to_come(self._database)

    def needed_manifests(self) -> set[str]:
        """Return the manifests of work items that are not done. Reads all work items."""
        return reports.needed_manifests(self._database)

    def find_images(
        self,
        *,
        states: Sequence[WorkState] = (),
        reasons: Sequence[str] = (),
        sources: Sequence[str] = (),
        stores: Sequence[str] = (),
        profiles: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        cameras: Sequence[str] = (),
        images: Sequence[str] = (),
        limit: int = 1_000,
    ) -> list[ImageState]:
        """Return the work items that a replay with these filters would requeue, newest captured first."""
        which = requeue.WorkItemFilter(states, reasons, sources, stores, profiles, since, until, cameras, images)
        return reports.find_images(self._database, which.clauses, limit)

    def each_image(self, which: requeue.WorkItemFilter) -> Iterator[ImageState]:
        """Yield all work items of a filter, in no order. Read it to the end, because it holds a transaction."""
        return reports.each_image(self._database, which.clauses)

    def endings(self, which: requeue.WorkItemFilter) -> list[ReasonCount]:
        """Return how many photos of a filter failed, by state and reason. Done photos count with permanent failures."""
        return reports.endings(self._database, which.clauses)

    def rows_to_rewrite(self, source: str, profile: str) -> int:
        """Return how many photos of a profile only wait for new metadata in their rows."""
        return reports.rows_to_rewrite(self._database, source, profile)

    def being_rewritten(self, source: str) -> set[str]:
        """Return the images whose rows wait for new metadata."""
        return reports.being_rewritten(self._database, source)

    def requeue(
        self,
        *,
        states: Sequence[WorkState] = ("failed", "dead"),
        reasons: Sequence[str] = (),
        sources: Sequence[str] = (),
        stores: Sequence[str] = (),
        profiles: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        cameras: Sequence[str] = (),
        images: Sequence[str] = (),
    ) -> int:
        """Make failed, dead or done items pending now, as if never tried. Return how many."""
        which = requeue.WorkItemFilter(states, reasons, sources, stores, profiles, since, until, cameras, images)
        return requeue.requeue(self._database, which)

    def begin_backfill(self, backfill_id: str, selection: str, *, restart: bool = False) -> BackfillStart:
        """Continue the unfinished backfill of this id, or begin it. ``restart`` always begins it."""
        return backfills.begin(self._database, backfill_id, selection, restart=restart)

    def end_backfill(self, backfill_id: str) -> None:
        """End a backfill that has nothing left to do. The next one of this id begins again."""
        backfills.end(self._database, backfill_id)

    def unfinished_backfill(self, backfill_id: str) -> BackfillStart | None:
        """Return the unfinished backfill of this id, if any."""
        return backfills.find(self._database, backfill_id)

    def begin_erasure(
        self,
        source: str,
        selection: str,
        *,
        image_ids: Sequence[str] = (),
        stores: Sequence[str] = (),
        until: datetime | None = None,
    ) -> Erasure:
        """Put tombstones on the named images, and on those of these stores or captured before; they never come back.

        Continue the unfinished erasure of the same selection, if there is one.
        """
        which = requeue.WorkItemFilter(stores=stores, until=until) if stores or until else None
        return tombstones.begin(self._database, source, selection, which, image_ids)

    def acquire_erasure_lock(self, source: str, holder: str) -> bool:
        """Lock a source's erasures until release_erasure_lock, or lease_s after the last renewal. False when locked."""
        return tombstones.acquire_lock(self._database, source, holder, self.lease)

    def renew_erasure_lock(self, source: str, holder: str) -> None:
        """Renew the lock for lease_s from now. Raise StaleLease when another process erases."""
        tombstones.renew_lock(self._database, source, holder, self.lease)

    def release_erasure_lock(self, source: str, holder: str) -> None:
        """Release the lock."""
        tombstones.release_lock(self._database, source, holder)

    def delete_unclaimed_items(self, erasure_id: str) -> int:
        """Delete the work items of its images, except claimed ones, which their commit deletes. Return how many."""
        return tombstones.delete_unclaimed(self._database, erasure_id)

    def images_to_erase(self, erasure_id: str, limit: int) -> list[str]:
        """Return some of its images that are neither erased yet nor held by a batch."""
        return tombstones.to_erase(self._database, erasure_id, limit)

    def images_in_progress(self, erasure_id: str) -> int:
        """Return how many of its images a batch holds: their crops must be erased later."""
        return tombstones.in_progress(self._database, erasure_id)

    def mark_erased(self, erasure_id: str, image_ids: Sequence[str]) -> None:
        """Record that nothing is left of these images."""
        tombstones.mark_erased(self._database, erasure_id, image_ids)

    def end_erasure(self, erasure_id: str) -> datetime:
        """Record that nothing is left of any of its images. Return when it first ended."""
        return tombstones.end(self._database, erasure_id)

    def unfinished_erasures(self, source: str) -> list[Erasure]:
        """Return the unfinished erasures, oldest first."""
        return tombstones.unfinished(self._database, source)

    def known_erasures(self, erasure_ids: Sequence[str]) -> set[str]:
        """Return those of the erasures that this state knows."""
        return tombstones.known(self._database, erasure_ids)

    def recall_erasure(
        self,
        erasure_id: str,
        source: str,
        selection: str,
        began_at: datetime,
        ended_at: datetime,
        image_ids: Sequence[str],
    ) -> list[str]:
        """Restore an erasure and its tombstones from its receipt. Return its images that have work items again."""
        erasure = Erasure(erasure_id, source, selection, began_at, resumed=False)
        return tombstones.recall(self._database, erasure, ended_at, image_ids)

    def mark_deleted(self, source: str, image_ids: Sequence[str]) -> int:
        """Mark images that their source deleted, and whose crops are kept. Return how many were not marked before."""
        return deletions.mark(self._database, source, image_ids)

    def unmark_deleted(self, source: str, image_ids: Sequence[str]) -> None:
        """Remove the mark of images that their source announces again."""
        if deletions.any_marked(self._database, source):
            deletions.unmark(self._database, source, image_ids)

    def deleted_at(self, source: str, image_id: str) -> datetime | None:
        """Return when a poll read that an image was deleted and its crops kept; None when it was not."""
        return deletions.marked_at(self._database, source, image_id)

    def known_images(self, source: str, image_ids: Sequence[str]) -> set[str]:
        """Return those of the images that have work items."""
        return deletions.known(self._database, source, image_ids)

    def old_photos(self, before: datetime) -> Iterator[tuple[str, list[ImageState]]]:
        """Yield (source, work items), a part at a time: photos that ended before a time, with all of their work items."""
        return moved_out.old_photos(self._database, before)

    def move_out(self, source: str, items: Iterable[ImageState]) -> int:
        """Move photos out of the table that still are as these work items; return how many. The catalogue knows them."""
        return moved_out.move_out(self._database, source, items)

    def moved_photos(self, source: str, image_ids: Collection[str]) -> MovedPhotos:
        """Return those of the images that moved out."""
        return moved_out.find(self._database, source, image_ids)

    def bring_back(self, source: str, items: Sequence[ImageState]) -> None:
        """Put work items of photos that moved out back into the table."""
        moved_out.bring_back(self._database, source, items)

    def forgotten(self, source: str, image_ids: Sequence[str]) -> set[str]:
        """Return those of the images that were erased: registering them does nothing."""
        return tombstones.forgotten(self._database, source, image_ids)

    def sample_backlog(self, *, at_most_every: timedelta = timedelta(0), keep: timedelta = timedelta(days=2)) -> bool:
        """Store a sample of the backlog. Return False when the last sample is younger than ``at_most_every``."""
        return backlog.sample(self._database, at_most_every=at_most_every, keep=keep)

    def backlog_samples(self, since: datetime) -> list[BacklogSample]:
        """Return the samples of the backlog since a time, oldest first."""
        return backlog.samples(self._database, since)

    def copy_to(self, target: State, on_table: Callable[[str, int], None]) -> None:
        """Copy every row into another, empty state. Raise StateError when it is not empty, or a batch is open here."""
        copies.copy(self._database, target._database, on_table)

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self._settings.lease_s)

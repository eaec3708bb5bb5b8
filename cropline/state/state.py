"""The state: one object with every operation that the steps and the CLI use.

Belongs here: the surface and what each call promises. Does not: the SQL, which stands in the module of each verb.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from cropline.config.state import StateSettings
from cropline.state import backfills, backlog, batches, binding, outbox, register, reports, requeue, runs, tombstones
from cropline.state import commit as commits
from cropline.state import copy as copies
from cropline.state.database import Clock, Database
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
from cropline.state.queue import ClaimRequest


class State:
    """The state table. Threads may share it; every process opens its own. All calls raise StateError when it is down.

    After a StateError the same call may be repeated on the same object: connections are made anew, and each change
    either happened whole, then repeating changes nothing, or not at all.
    """

    def __init__(self, database: Database, settings: StateSettings) -> None:
        self._database = database
        self._settings = settings

    @classmethod
    def open(cls, settings: StateSettings, *, clock: Clock | None = None) -> Self:
        """Connect and bring the schema up to date. ``clock`` replaces the time, for tests.

        Raises StateError when the database cannot be used, SchemaTooNew when a newer cropline migrated it.
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
        """Belong to this storage and to the source's API, as the first run says. Raises StateError when it is another's."""
        binding.bind(self._database, storage, source, api)

    def move(self, source: str, *, storage: str | None = None, api: str | None = None) -> None:
        """Belong to another storage, or for the source to another API, from now on."""
        binding.move(self._database, storage, source, api)

    def bound(self) -> Bound:
        """What it belongs to, and what it remembers of the catalogue."""
        return binding.bound(self._database)

    def known_batches(self, batch_ids: Collection[str]) -> set[str]:
        """Those of the batches that this state made."""
        return binding.known_batches(self._database, batch_ids)

    def remember_catalogue(self, version: int, *, strangers: bool) -> None:
        """Every commit of the catalogue up to this version was looked at; see ``commit``, which says the same of its own."""
        with self._database.atomic() as connection:
            binding.remember(connection, version, strangers=strangers)

    def doubles_checked(self) -> None:
        """The catalogue was searched for works that stand in it twice, and none is left."""
        binding.doubles_checked(self._database)

    def cursor(self, source: str) -> str | None:
        """The last saved poll position, ISO 8601 in UTC: the greatest updated_at; None before the first poll."""
        return register.cursor(self._database, source)

    def quiet_for(self, source: str) -> timedelta | None:
        """How long the source's API still wants not to be asked, as it said; None when it may be asked."""
        return register.quiet_for(self._database, source)

    def keep_quiet(self, source: str, wait: timedelta) -> None:
        """The source's API asked not to be asked for so long."""
        register.keep_quiet(self._database, source, wait)

    def unseen(self, source: str, digests: Sequence[str]) -> set[str]:
        """Those of the digests that were not landed within the overlap window."""
        return register.unseen(self._database, source, digests)

    def readdressed(self, source: str, addresses: Mapping[str, tuple[str, str]]) -> set[str]:
        """Those of the items (by digest: image id, digest of the address) that have a new address which their work needs."""
        return register.readdressed(self._database, source, addresses)

    def register(self, registration: Registration) -> Registered:
        """A manifest becomes work, the cursor moves, items and events are remembered: all of it, once, or nothing."""
        return register.register(self._database, registration)

    def manifest_registered(self, manifest: str) -> bool:
        """Whether this manifest (a storage key) has become work."""
        return register.manifest_registered(self._database, manifest)

    def claim(
        self,
        *,
        limit: int,
        owner: str,
        source: str | None = None,
        profiles: Sequence[str] | None = None,
        images: Sequence[str] | None = None,
    ) -> Batch | None:
        """Lease a batch: a stale one, whole, whatever the limit; else up to ``limit`` images, newest captured first.

        Retries that are due get a tenth of a batch, and what new images leave free. None when there is nothing.
        With ``images`` (ids) only these are taken, and no stale batch: a backfill does its own work and nothing else.
        """
        request = ClaimRequest(limit, owner, source, profiles, self.lease, images)
        return batches.claim(self._database, request)

    def resume(self, *, owner: str, source: str | None = None) -> Batch | None:
        """Lease a stale batch, whole; None when there is none. ``claim`` does so first by itself."""
        request = ClaimRequest(0, owner, source, None, self.lease)
        return batches.resume(self._database, request)

    def has_work(self, source: str | None = None) -> bool:
        """Whether a claim would find anything now. Takes no lock: an idle poll ends after this one question."""
        return batches.has_work(self._database, source)

    def renew(self, batch: Batch) -> None:
        """The heartbeat: lease_s from now. Raises StaleLease when another attempt owns the batch."""
        batches.renew(self._database, batch, self.lease)

    def readdress(self, batch: Batch, moved: Mapping[tuple[str, int], tuple[str, int]]) -> None:
        """The batch's images are read elsewhere from now on: place (manifest, row) -> place. Raises StaleLease."""
        batches.readdress(self._database, batch, moved)

    def release(self, batch: Batch, reason: str) -> None:
        """Let go of a batch that cannot be finished: the next claim resumes it at once. Raises StaleLease."""
        batches.release(self._database, batch, reason)

    def commit(
        self,
        batch: Batch,
        outcomes: Iterable[Outcome],
        *,
        counts: Counts,
        catalogue_version: int | None,
        events: Sequence[Event] = (),
        strangers: bool = False,
    ) -> Committed:
        """End a batch, once: works, batch and outbox in one transaction.

        ``strangers``: up to ``catalogue_version`` the catalogue was found to hold commits of batches that are not known here.

        Raises StaleLease when another attempt owns it, NotReconciled when outcomes and counts are not those of its works.
        """
        request = commits.CommitRequest(outcomes, counts, catalogue_version, events, strangers)
        settings = self._settings
        retries = commits.Retries(
            settings.max_attempts, timedelta(seconds=settings.backoff_s), timedelta(seconds=settings.backoff_cap_s)
        )
        return commits.commit(self._database, batch, request, retries)

    def enqueue_events(self, events: Sequence[Event]) -> None:
        """Put events into the outbox; an id that was there before is left as it is."""
        outbox.enqueue_events(self._database, events)

    def begin_run(self, flow_run: str, start: Event) -> None:
        """A flow run is under way: its START is enqueued, and it is kept for lease_s."""
        runs.begin(self._database, flow_run, start, self.lease)

    def renew_run(self, flow_run: str) -> None:
        """The heartbeat: the run goes on, lease_s from now. Raises StaleLease when it was ended."""
        runs.renew(self._database, flow_run, self.lease)

    def end_run(self, flow_run: str, events: Sequence[Event], *, expired_only: bool = False) -> bool:
        """Enqueue the end of a flow run, once: False when it has ended already, or (``expired_only``) was heard of since."""
        return runs.end(self._database, flow_run, events, expired_only=expired_only)

    def expired_runs(self) -> list[ExpiredRun]:
        """Flow runs that began, did not end, and have not been heard of for lease_s: they were killed."""
        return runs.expired(self._database)

    def pending_events(self, limit: int) -> list[Event]:
        """The next events to publish."""
        return outbox.pending_events(self._database, limit)

    def mark_published(self, event_ids: Sequence[str]) -> None:
        """These events arrived."""
        outbox.mark_published(self._database, event_ids)

    def mark_arrived(self, arrived: Mapping[str, Sequence[str]]) -> None:
        """Event id -> those of several ways out that have it; it still waits for the others."""
        outbox.mark_arrived(self._database, arrived)

    def mark_publish_failed(self, event_ids: Sequence[str], error: str) -> None:
        """These events did not arrive; ``error`` is one scrubbed line."""
        outbox.mark_publish_failed(self._database, event_ids, error)

    def report(self, *, last_batches: int = 10) -> StateReport:
        """The state table at a glance; costs the same whatever the number of works that are done."""
        return reports.report(self._database, last_batches=last_batches)

    def image(self, source: str, image_id: str) -> list[ImageState]:
        """The works of one image, by profile."""
        return reports.image(self._database, source, image_id)

    def batch(self, batch_id: str) -> BatchState | None:
        """One batch, or None."""
        return reports.batch(self._database, batch_id)

    def recipe(self, profile_hash: str) -> str | None:
        """The recipe (JSON) that was registered under a hash; None when this table never saw it."""
        return reports.recipe(self._database, profile_hash)

    def recrops(self, source: str, profile: str, profile_hash: str) -> Recrop:
        """What a profile's recipe of today would cut again or for the first time. Reads the whole table of works."""
        return reports.recrops(self._database, source, profile, profile_hash)

    def oldest_open_batch(self) -> datetime | None:
        """When the oldest batch was made that has not ended; None when none is open."""
        return reports.oldest_open_batch(self._database)

    def images_to_come(self) -> Iterator[list[tuple[str, str]]]:
        """(source, image id) of the works that are pending, claimed or failed, some thousand at a time, each image once."""
        return reports.images_to_come(self._database)

    def needed_manifests(self) -> set[str]:
        """The manifests that works which are not done lie in. Reads the whole table of works."""
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
        """Works that a replay with these filters would touch, newest captured first."""
        which = requeue.WorkItemFilter(states, reasons, sources, stores, profiles, since, until, cameras, images)
        return reports.find_images(self._database, which.clauses, limit)

    def each_image(self, which: requeue.WorkItemFilter) -> Iterator[ImageState]:
        """All works of a filter, in no order, some thousand in memory at a time. Read to its end: it holds a transaction."""
        return reports.each_image(self._database, which.clauses)

    def endings(self, which: requeue.WorkItemFilter) -> list[ReasonCount]:
        """How many photos of a filter ended badly, by state and reason; of those done, the ones with failures that last."""
        return reports.endings(self._database, which.clauses)

    def rows_to_rewrite(self, source: str, profile: str) -> int:
        """Photos of a profile that wait for rows with other metadata, and for nothing else."""
        return reports.rows_to_rewrite(self._database, source, profile)

    def being_rewritten(self, source: str) -> set[str]:
        """Images whose rows wait for other metadata."""
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
        """Make failed, dead or done works pending now, as if never tried. Gives how many."""
        which = requeue.WorkItemFilter(states, reasons, sources, stores, profiles, since, until, cameras, images)
        return requeue.requeue(self._database, which)

    def begin_backfill(self, backfill_id: str, selection: str, *, restart: bool = False) -> BackfillStart:
        """Go on with the unfinished backfill of this id, or begin it. ``restart`` begins it in any case."""
        return backfills.begin(self._database, backfill_id, selection, restart=restart)

    def end_backfill(self, backfill_id: str) -> None:
        """It has nothing left to do: the next of this id begins anew."""
        backfills.end(self._database, backfill_id)

    def unfinished_backfill(self, backfill_id: str) -> BackfillStart | None:
        """The backfill of this id that was begun and is not at its end, if there is one."""
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
        """Put tombstones on the named images and on those of these stores or captured before; they never come back.

        Goes on with the unfinished erasure of the same selection, if there is one.
        """
        which = requeue.WorkItemFilter(stores=stores, until=until) if stores or until else None
        return tombstones.begin(self._database, source, selection, which, image_ids)

    def acquire_erasure_lock(self, source: str, holder: str) -> bool:
        """Whether from now on nobody else erases of the source: until release_erasure_lock, or lease_s after the last heartbeat."""
        return tombstones.acquire_lock(self._database, source, holder, self.lease)

    def renew_erasure_lock(self, source: str, holder: str) -> None:
        """The heartbeat: lease_s from now. Raises StaleLease when another erases."""
        tombstones.renew_lock(self._database, source, holder, self.lease)

    def release_erasure_lock(self, source: str, holder: str) -> None:
        """The next may erase."""
        tombstones.release_lock(self._database, source, holder)

    def delete_unclaimed_items(self, erasure_id: str) -> int:
        """Take away the works of its images, but for those that a batch holds: their commit does. Gives how many."""
        return tombstones.delete_unclaimed(self._database, erasure_id)

    def images_to_erase(self, erasure_id: str, limit: int) -> list[str]:
        """Some of its images that are not erased yet and that no batch holds."""
        return tombstones.to_erase(self._database, erasure_id, limit)

    def images_in_progress(self, erasure_id: str) -> int:
        """How many of its images a batch holds: what comes of them is still to be erased."""
        return tombstones.in_progress(self._database, erasure_id)

    def mark_erased(self, erasure_id: str, image_ids: Sequence[str]) -> None:
        """Nothing is left of these images."""
        tombstones.mark_erased(self._database, erasure_id, image_ids)

    def end_erasure(self, erasure_id: str) -> datetime:
        """Nothing is left of any of its images. Gives when it ended, the first time that it did."""
        return tombstones.end(self._database, erasure_id)

    def unfinished_erasures(self, source: str) -> list[Erasure]:
        """The erasures that are not at their end, oldest first."""
        return tombstones.unfinished(self._database, source)

    def known_erasures(self, erasure_ids: Sequence[str]) -> set[str]:
        """Those of the erasures that this state knows."""
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
        """Remember an erasure by its receipt, with its tombstones. Gives those of its images that are works here again."""
        erasure = Erasure(erasure_id, source, selection, began_at, resumed=False)
        return tombstones.recall(self._database, erasure, ended_at, image_ids)

    def forgotten(self, source: str, image_ids: Sequence[str]) -> set[str]:
        """Those of the images that were forgotten: registering them does nothing."""
        return tombstones.forgotten(self._database, source, image_ids)

    def sample_backlog(self, *, at_most_every: timedelta = timedelta(0), keep: timedelta = timedelta(days=2)) -> bool:
        """Note how large the backlog is now; False when the last sample is younger than ``at_most_every``."""
        return backlog.sample(self._database, at_most_every=at_most_every, keep=keep)

    def backlog_samples(self, since: datetime) -> list[BacklogSample]:
        """The backlog from a moment on, oldest sample first."""
        return backlog.samples(self._database, since)

    def copy_to(self, target: State, on_table: Callable[[str, int], None]) -> None:
        """Every row into another, empty state. Raises StateError when it is not empty, or a batch is open here."""
        copies.copy(self._database, target._database, on_table)

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self._settings.lease_s)

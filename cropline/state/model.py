"""The inputs and outputs of the state table, as frozen dataclasses.

All times are timezone-aware UTC datetimes. Counts are of work items (an image and a profile) unless they say images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

WorkState = Literal["pending", "claimed", "done", "failed", "dead", "quarantined"]
WORK_STATES: tuple[WorkState, ...] = ("pending", "claimed", "done", "failed", "dead", "quarantined")


@dataclass(frozen=True)
class Event:
    """A lineage event of the outbox. ``event_id`` is stable: an id that is enqueued again is ignored."""

    event_id: str
    payload: str  # JSON, scrubbed by its author
    attempts: int = 0  # how often publishing it failed
    last_error: str | None = None
    arrived: tuple[str, ...] = ()  # the transports of a composite that have it


@dataclass(frozen=True)
class ExpiredRun:
    """A flow run whose START was emitted and whose lease has expired. ``start``: that event, JSON."""

    flow_run: str
    start: str
    alive_until: datetime


@dataclass(frozen=True)
class Registration:
    """One manifest, ready to become work items. register.py says what each row does."""

    source: str
    manifest: str  # storage key; registering it a second time changes nothing
    cursor: str | None  # ISO 8601; only moves forward; None keeps it (a backfill)
    rows: pa.Table | Iterable[pa.Table]  # CANDIDATES, read once
    item_digests: Sequence[tuple[str, datetime | None]]  # landed by this poll: (digest of the item, its updated_at)
    forget_digests_before: datetime  # older digests are outside the overlap window
    profiles: Mapping[str, tuple[str, str]]  # name -> (hash, recipe as JSON)
    events: Sequence[Event] = ()
    urls: Mapping[str, str] = field(
        default_factory=dict
    )  # digest of an item -> digest of its address, if that has a query
    image_ids: Mapping[str, str] = field(default_factory=dict)  # digest of an item -> its image id
    moves: int = 0  # MovedPhotos.moves when its photos were looked up in the catalogue
    unknown: Collection[str] = ()  # photos that moved out and that the catalogue no longer has


@dataclass(frozen=True)
class Registered:
    """What a registration did, in work items. All counts except ``already`` add up to the rows that were handed in."""

    new: int
    changed: int
    known: int
    quarantined: int
    already: bool  # this manifest was registered before; the counts are those of the first time
    corrected: int = 0  # same crops, other metadata


@dataclass(frozen=True)
class Batch:
    """A lease on some work items.

    ``attempt`` is the fencing token: after a takeover the old one can no longer commit.
    """

    batch_id: str
    attempt: int  # from 1
    source: str
    created_at: datetime
    resumed: bool  # another attempt held it before; the catalogue may already hold it
    lease_until: datetime
    images: pa.Table  # schemas.CLAIM, sorted by image id; frozen: every attempt of a batch gets the same
    superseding: Sequence[tuple[str, str, str]]  # (source, image_id, profile) that the catalogue holds already
    committed_in: frozenset[str] = frozenset()  # the batches that committed these
    rewriting: frozenset[tuple[str, str]] = frozenset()  # (image_id, profile): only the metadata of its rows changed

    def work_columns(self) -> pa.Table:
        """Return source, image_id, profile and fingerprint of its work items. Reads no other column."""
        import pyarrow as pa
        import pyarrow.compute as pc

        works = self.images["work"].combine_chunks()
        of = pc.list_parent_indices(works)
        columns = {name: self.images[name].take(of) for name in ("source", "image_id")}
        return pa.table(
            columns | {name: pc.struct_field(pc.list_flatten(works), name) for name in ("profile", "fingerprint")}
        )


class Outcome(NamedTuple):
    """The result of one work item. ok: final for this fingerprint, even when boxes failed for permanent reasons."""

    source: str
    image_id: str
    profile: str
    fingerprint: str
    ok: bool
    transient_reason: str | None = None  # a code of failures.py; required when not ok
    permanent_reason: str | None = None  # kept with a done item when some of its boxes failed permanently
    retry_after_s: int | None = None  # the wait that the photo's host asked for


@dataclass(frozen=True)
class Counts:
    """A batch's totals.

    ``boxes`` counts an image's boxes once; the last three count crop rows, one per box and profile.
    """

    images: int
    boxes: int
    written: int
    failed: int
    skipped: int


@dataclass(frozen=True)
class Committed:
    """What a commit did to its work items."""

    done: int
    failed: int  # to be retried
    dead: int
    pending_again: int  # changed while they were claimed
    already: bool  # this attempt had committed before; nothing changed


@dataclass(frozen=True)
class ImageState:
    """One work item as the state table has it."""

    source: str
    image_id: str
    profile: str
    state: WorkState
    since: datetime
    reason: str | None
    attempts: int
    retry_at: datetime | None
    profile_hash: str
    version: str
    fingerprint: str
    manifest: str
    manifest_row: int
    boxes: int
    captured_at: datetime | None
    updated_at: datetime | None
    store_id: str | None
    camera_id: str | None
    first_seen: datetime
    batch_id: str | None  # the last batch that held it
    committed_batch: str | None  # the last batch that committed it to the catalogue
    metadata: str | None = None  # keys.metadata_hash; None: registered by a version without it


@dataclass(frozen=True)
class BatchState:
    """One batch as the state table has it. Counts are None until it is committed."""

    batch_id: str
    source: str
    state: Literal["open", "committed"]
    attempt: int
    owner: str
    created_at: datetime
    lease_until: datetime
    committed_at: datetime | None
    images: int
    works: int
    counts: Counts | None
    catalogue_version: int | None
    note: str | None  # why an attempt released it


@dataclass(frozen=True)
class SourceState:
    """How far one API has been polled. ``lag`` is now minus cursor."""

    source: str
    cursor: str | None
    registered_at: datetime | None
    lag: timedelta | None


@dataclass(frozen=True)
class ReasonCount:
    """The number of work items in a state with a reason."""

    state: WorkState
    reason: str
    works: int


@dataclass(frozen=True)
class StateReport:
    """A summary of the state table. Its cost does not grow with finished work."""

    at: datetime
    images: Mapping[WorkState, int]  # work items by state; every state is named
    backlog: int  # pending and failed: the work that is left
    oldest_pending_since: datetime | None
    oldest_pending_age: timedelta | None
    sources: Sequence[SourceState]
    batches: Sequence[BatchState]  # the last ones, newest first
    open_batches: int
    stale_batches: int  # with an expired lease: the next claim resumes one
    outbox: int
    oldest_event_at: datetime | None
    reasons: Sequence[
        ReasonCount
    ]  # of work items that failed, are dead, quarantined, or done with failures; most frequent first
    unknown_batches: bool  # the catalogue holds batches that this database does not know
    moved_out: int = 0  # photos that ended long ago and left the table; the catalogue knows them
    moved_before: datetime | None = None  # since when the youngest of them was done

    @property
    def done_with_failures(self) -> int:
        """The number of done work items with permanently failed boxes."""
        return sum(count.works for count in self.reasons if count.state == "done")


@dataclass(frozen=True)
class BackfillStart:
    """An unfinished backfill. ``resumed``: an earlier run began it."""

    backfill_id: str
    at: datetime
    resumed: bool


@dataclass(frozen=True)
class BacklogSample:
    """Work items by state at one time, and since when the oldest pending one waits."""

    at: datetime
    pending: int
    claimed: int
    failed: int
    dead: int
    oldest_pending_since: datetime | None


@dataclass(frozen=True)
class Erasure:
    """An erasure of all images that one selection named. ``resumed``: an earlier call began it."""

    erasure_id: str
    source: str
    selection: str  # JSON
    began_at: datetime
    resumed: bool


@dataclass(frozen=True)
class Bound:
    """What a state database is bound to, and what it remembers of the catalogue there (see binding.py)."""

    storage: str | None  # its address; None before the first run
    catalogue_version: int | None  # every commit up to this one was checked
    unknown_batches: bool  # some were of batches that this database does not know
    duplicates_checked: bool


@dataclass(frozen=True)
class Recrop:
    """What a profile's current recipe would cut again or for the first time. Quarantined work items do not count."""

    profile: str
    changed: int  # photos whose work item has another recipe
    missing: int  # photos that have no work item of this profile
    boxes: int  # of both
    bytes: int  # of both, as far as the sizes are known
    recipes: tuple[str, ...]  # hashes of the other recipes

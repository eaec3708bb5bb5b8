"""What goes in and out of the state table, as frozen dataclasses. All times are timezone-aware UTC datetimes.

Belongs here: shapes and what their fields mean. Does not: SQL, or anything that decides.
A *work* is one image and one profile: the grain of the state table and of every count that is not said to be of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

WorkState = Literal["pending", "claimed", "done", "failed", "dead", "quarantined"]
WORK_STATES: tuple[WorkState, ...] = ("pending", "claimed", "done", "failed", "dead", "quarantined")


@dataclass(frozen=True)
class Event:
    """A lineage event of the outbox. ``event_id`` is stable: the same id is stored once, however often it is enqueued."""

    event_id: str
    payload: str  # JSON, scrubbed by whoever made it
    attempts: int = 0  # how often publishing it failed
    last_error: str | None = None
    arrived: tuple[str, ...] = ()  # of several ways out, those that have it


@dataclass(frozen=True)
class ExpiredRun:
    """A flow run that has told its START and then fell silent. ``start``: that event, JSON."""

    flow_run: str
    start: str
    alive_until: datetime


@dataclass(frozen=True)
class Registration:
    """One manifest, ready to become work. See register.py for what happens to each row."""

    source: str
    manifest: str  # storage key; registering it a second time changes nothing
    cursor: str | None  # ISO 8601; moves forward only; None leaves it (a backfill)
    rows: pa.Table | Iterable[pa.Table]  # CANDIDATES, read once
    item_digests: Sequence[tuple[str, datetime | None]]  # what this poll landed: (digest of the item, its updated_at)
    forget_digests_before: datetime  # older digests lie outside of the overlap window
    profiles: Mapping[str, tuple[str, str]]  # name -> (hash, recipe as JSON)
    events: Sequence[Event] = ()
    urls: Mapping[str, str] = field(
        default_factory=dict
    )  # digest of an item -> digest of its address, if that has a query


@dataclass(frozen=True)
class Registered:
    """What a registration did, in works; all of them but ``already`` add up to the rows that were handed in."""

    new: int
    changed: int
    known: int
    quarantined: int
    already: bool  # this manifest was registered before; the counts are those of that time
    corrected: int = 0  # the same crops, other metadata


@dataclass(frozen=True)
class Batch:
    """A lease on some works. ``attempt`` is the fencing token: after a takeover the old one can no longer commit."""

    batch_id: str
    attempt: int  # from 1
    source: str
    created_at: datetime
    resumed: bool  # another attempt held it before; the catalogue may already hold it
    lease_until: datetime
    images: pa.Table  # schemas.CLAIM, sorted by image id; frozen: every attempt of a batch gets the same
    superseding: Sequence[tuple[str, str, str]]  # (source, image_id, profile) that the catalogue holds already
    rewriting: frozenset[tuple[str, str]] = frozenset()  # (image_id, profile): only the metadata of its rows changed


@dataclass(frozen=True)
class Outcome:
    """What became of one work. ok: final for this fingerprint, even when boxes failed for permanent reasons."""

    source: str
    image_id: str
    profile: str
    fingerprint: str
    ok: bool
    transient_reason: str | None = None  # a code of failures.py; needed when not ok
    permanent_reason: str | None = None  # kept beside a done work when something in it failed for good
    retry_after_s: int | None = None  # what the photo's host asked for


@dataclass(frozen=True)
class Counts:
    """What a batch came to. ``boxes`` counts an image's boxes once; the other three count crop rows, one a box and profile."""

    images: int
    boxes: int
    written: int
    failed: int
    skipped: int


@dataclass(frozen=True)
class Committed:
    """What a commit did to its works."""

    done: int
    failed: int  # will be tried again
    dead: int
    pending_again: int  # changed while they were claimed
    already: bool  # this attempt had committed before; nothing was changed


@dataclass(frozen=True)
class ImageState:
    """One work as the state table has it."""

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
    committed_batch: str | None  # the last batch that brought it into the catalogue
    metadata: str | None = None  # keys.metadata_hash; None: registered by a version that had none


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
    note: str | None  # why an attempt let go of it


@dataclass(frozen=True)
class SourceState:
    """How far one API has been polled. ``lag`` is now minus cursor."""

    source: str
    cursor: str | None
    registered_at: datetime | None
    lag: timedelta | None


@dataclass(frozen=True)
class ReasonCount:
    """How many works are in a state for a reason."""

    state: WorkState
    reason: str
    works: int


@dataclass(frozen=True)
class StateReport:
    """The state table at a glance; costs the same whatever the number of works that are done."""

    at: datetime
    images: Mapping[WorkState, int]  # works by state, every state named
    backlog: int  # pending and failed: work that is left
    oldest_pending_since: datetime | None
    oldest_pending_age: timedelta | None
    sources: Sequence[SourceState]
    batches: Sequence[BatchState]  # the last ones, newest first
    open_batches: int
    stale_batches: int  # their lease has run out: the next claim resumes one
    outbox: int
    oldest_event_at: datetime | None
    reasons: Sequence[
        ReasonCount
    ]  # of works that failed, are dead, quarantined, or done with failures; most frequent first
    strangers: bool  # the catalogue holds batches that this database does not know

    @property
    def done_with_failures(self) -> int:
        """Of the works that are done, those of which boxes failed for good."""
        return sum(count.works for count in self.reasons if count.state == "done")


@dataclass(frozen=True)
class BackfillStart:
    """A backfill that is not at its end. ``resumed``: an earlier run began it."""

    backfill_id: str
    at: datetime
    resumed: bool


@dataclass(frozen=True)
class BacklogSample:
    """Works by state at one moment, and since when the oldest pending one waits."""

    at: datetime
    pending: int
    claimed: int
    failed: int
    dead: int
    oldest_pending_since: datetime | None


@dataclass(frozen=True)
class Erasure:
    """Images that are to be forgotten, all those that one selection named. ``resumed``: an earlier call began it."""

    erasure_id: str
    source: str
    selection: str  # JSON
    began_at: datetime
    resumed: bool


@dataclass(frozen=True)
class Bound:
    """What a state database belongs to, and what it remembers of the catalogue there, see binding.py."""

    storage: str | None  # its address; None before the first run
    catalogue_version: int | None  # every commit up to this one was looked at
    strangers: bool  # some were of batches that this database does not know
    doubles_checked: bool


@dataclass(frozen=True)
class Recrop:
    """What a profile's recipe of today would cut again or for the first time, by the state table. Quarantined works are not in it."""

    profile: str
    changed: int  # photos whose work is of another recipe
    missing: int  # photos that have no work of this profile
    boxes: int  # of both
    bytes: int  # of both photos, as far as they were announced
    recipes: tuple[str, ...]  # hashes of the other recipes

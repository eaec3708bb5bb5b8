"""What is to be done with each work, and why: the announced rows against the state table.

Belongs here: the decision, as a table of cases that the tests repeat. Does not: doing it.

    the work is         missing      failed     all          what is done
    unknown             new          -          new          registered
    of another recipe,  other ...    -          other ...    registered, unless a newer version is known
      version or boxes
    of other metadata   metadata ... -          metadata ... registered: its rows are written anew (all: cut again)
    quarantined         good now     good now   good now     registered
    pending             waiting      -          waiting      claimed
    failed or dead      -            failed     failed       requeued
    done                -            -          again        requeued, unless this backfill has done it
    claimed             -            -          -            left to the run that has it
    forgotten           -            -          -            never comes back

What the API announces now is registered beside: its URL is the newest. Metadata of a landed manifest counts only when its
updated_at is newer than what the state has, for all landed manifests have been registered before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from cropline.backfill.choose import Row
from cropline.backfill.request import Mode
from cropline.core.keys import fingerprint

if TYPE_CHECKING:
    from cropline.state import ImageState, State, WorkState

Action = Literal["register", "requeue", "claim"]
IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One image and profile that a run is to do. ``row`` is where it is announced; a requeued work needs none."""

    image_id: str
    profile: str
    why: str
    action: Action
    captured_at: datetime | None
    boxes: int
    bytes: int | None
    row: Row | None = None
    state: WorkState | None = None  # what it was in, when it is requeued
    registers: bool = False  # its row is registered, whatever the action


@dataclass(frozen=True)
class Selection:
    """How works are judged."""

    source: str
    mode: Mode
    profiles: Mapping[str, str]  # name -> hash of its recipe
    done_since: datetime | None  # of mode all: what ended after it was done by this backfill


def classify(rows: Sequence[Row], selection: Selection, state: State, left: Counter[str]) -> Iterator[WorkItem]:
    """The works to do. ``left`` counts, by why, those that are not; every row and profile is in one of the two."""
    for start in range(0, len(rows), IDS_AT_ONCE):
        part = rows[start : start + IDS_AT_ONCE]
        known = {
            (work.image_id, work.profile): work
            for work in state.find_images(
                sources=[selection.source],
                images=[row.image_id for row in part],
                limit=IDS_AT_ONCE * 1_000,
            )
        }
        gone = state.forgotten(selection.source, [row.image_id for row in part])
        for row in part:
            if row.image_id in gone:
                left["forgotten"] += len(selection.profiles)
                continue
            for profile, recipe in selection.profiles.items():
                action, why = decide(row, recipe, known.get((row.image_id, profile)), selection)
                if action is None:
                    left[why] += 1
                else:
                    work = known.get((row.image_id, profile))
                    state_now = work.state if work is not None and action == "requeue" else None
                    registers = action == "register" or (work is not None and _tells(row, work))
                    yield WorkItem(
                        row.image_id,
                        profile,
                        why,
                        action,
                        row.captured_at,
                        row.boxes,
                        row.bytes,
                        row,
                        state_now,
                        registers,
                    )


def decide(row: Row, recipe: str, work: ImageState | None, selection: Selection) -> tuple[Action | None, str]:
    """(action or None, why) for one row and profile, as the table above says."""
    if work is None:
        return _if(selection.mode != "failed", "register", "new", "never registered")
    if work.state == "quarantined":
        return "register", "good now"
    if fingerprint(row.content_hash, recipe) != work.fingerprint:
        if _older(row, work):
            return None, "a newer version is known"
        return _if(selection.mode != "failed", "register", _change(row, recipe, work), "changed")
    action, why = _same(work, selection)
    if action is None and selection.mode != "failed" and work.state != "claimed" and _corrected(row, work):
        return "register", "metadata changed"
    return action, why


def _tells(row: Row, work: ImageState) -> bool:
    """Whether the row of a known work is to be registered beside what is done with it."""
    return (row.announced_now and not _older(row, work)) or _corrected(row, work)


def _corrected(row: Row, work: ImageState) -> bool:
    """Whether the row tells newer metadata of the same work."""
    if _older(row, work):
        return False
    if work.metadata is None:  # of an earlier version: its columns are what can be compared
        return (row.store_id, row.camera_id, row.captured_at) != (work.store_id, work.camera_id, work.captured_at)
    newer = row.announced_now or (row.updated_at is not None and row.updated_at != work.updated_at)
    return newer and row.metadata != work.metadata


def _older(row: Row, work: ImageState) -> bool:
    return bool(row.updated_at and work.updated_at and row.updated_at < work.updated_at)


def _change(row: Row, recipe: str, work: ImageState) -> str:
    if recipe != work.profile_hash:
        return "other recipe"
    return "other version" if row.version != work.version else "other boxes"


def _same(work: ImageState, selection: Selection) -> tuple[Action | None, str]:
    match work.state:
        case "pending":
            return _if(selection.mode != "failed", "claim", "waiting", "waiting")
        case "failed" | "dead":
            return _if(selection.mode != "missing", "requeue", work.state, f"{work.state}, see replay")
        case "done":
            ours = selection.done_since is not None and work.since >= selection.done_since
            if selection.mode == "all" and ours:
                return None, "done by this backfill"
            return _if(selection.mode == "all", "requeue", "again", "done")
    return None, "in work"


def _if(wanted: bool, action: Action, why: str, why_not: str) -> tuple[Action | None, str]:
    return (action, why) if wanted else (None, why_not)


def of_bad(rows: Iterable[Row], known: Mapping[str, str]) -> tuple[list[Row], int]:
    """Bad rows that quarantine does not hold yet, and how many it holds. ``known``: image id -> version held."""
    fresh, held = [], 0
    for row in rows:
        if known.get(row.image_id) == row.version:
            held += 1
        else:
            fresh.append(row)
    return fresh, held

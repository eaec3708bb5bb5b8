"""Decides what is to be done with each work item, and why: compares announced rows with the state table.

the work item is    missing      failed     all          action
unknown             new          -          new          register
of another recipe,  other ...    -          other ...    register, unless a newer version is known
  version or boxes
of other metadata   metadata ... -          metadata ... register: its rows are rewritten (all: cut again)
quarantined         good now     good now   good now     register
pending             waiting      -          waiting      claim
failed or dead      -            failed     failed       requeue
done                -            -          again        requeue, unless this backfill has done it; the same when
                                                         it left the state table, as the catalogue knows it
claimed             -            -          -            none: another run has it
forgotten           -            -          -            none, ever
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
from cropline.pipeline.known_photos import find_known

if TYPE_CHECKING:
    from cropline.catalogue import Catalogue
    from cropline.state import ImageState, State, WorkState

Action = Literal["register", "requeue", "claim"]
IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One image and profile that a run is to do. ``row``: its announcement; a requeued work item needs none."""

    image_id: str
    profile: str
    why: str
    action: Action
    captured_at: datetime | None
    boxes: int
    bytes: int | None
    row: Row | None = None
    state: WorkState | None = None  # its state before it is requeued
    registers: bool = False  # its row is registered, whatever the action


@dataclass(frozen=True)
class Selection:
    """How work items are judged."""

    source: str
    mode: Mode
    profiles: Mapping[str, str]  # name -> hash of its recipe
    done_since: datetime | None  # mode all: what was done after this time was done by this backfill


def classify(
    rows: Sequence[Row], selection: Selection, state: State, catalogue: Catalogue, left: Counter[str]
) -> Iterator[WorkItem]:
    """Yield the work items to do. ``left`` counts the others by reason; each row and profile is in one of the two."""
    for start in range(0, len(rows), IDS_AT_ONCE):
        part = rows[start : start + IDS_AT_ONCE]
        known = {
            (work.image_id, work.profile): work
            for work in find_known(state, catalogue, selection.source, [row.image_id for row in part])
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
    """Return (action or None, why) for one row and profile, by the table above."""
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
    """Whether the row of a known work item is registered, in addition to the action.

    What the API announces now is registered, because its URL is the newest.
    """
    return (row.announced_now and not _older(row, work)) or _corrected(row, work)


def _corrected(row: Row, work: ImageState) -> bool:
    """Whether the row has newer metadata for the same work item.

    All landed manifests have been registered before: their metadata counts only with a newer updated_at.
    """
    if _older(row, work):
        return False
    if work.metadata is None:  # registered by an older cropline: only the columns can be compared
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
    """Return the bad rows that quarantine does not hold yet, and how many it holds. ``known``: image id -> version."""
    fresh, held = [], 0
    for row in rows:
        if known.get(row.image_id) == row.version:
            held += 1
        else:
            fresh.append(row)
    return fresh, held

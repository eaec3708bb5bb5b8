"""Read the table's log: which commit holds a batch, and whether other installations committed here."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from cropline.core import storage
from cropline.core.errors import CatalogueError
from cropline.core.store_spec import StoreSpec

LOG = "_delta_log"

# Commit property that names a maintenance step of cropline; such a commit adds no new crops.
STEP = "cropline.step"
DELETE = "delete"  # the step that deletes rows: of an erasure, or by retention
COMPACTION = "compact"  # rows move to other files; none comes, none goes

# Limit of other commits between reading the table and committing a batch.
_MOST_COMMITS_BETWEEN = 200
# When a state is more commits behind, they count as unknown: that costs time, never a row.
_ENTRIES_AT_MOST = 1_000
# Operations that remove or rearrange rows.
_BRINGS_NOTHING = {"DELETE", "OPTIMIZE", "VACUUM START", "VACUUM END", "CREATE TABLE", "ADD COLUMN"}


@dataclass(frozen=True)
class Commit:
    """A batch's commit. ``rows``: how many it added; ``version`` None: the log no longer has it."""

    version: int | None
    rows: int | None


@dataclass(frozen=True)
class Memory:
    """What a state database remembers of the table's commits.

    ``until``: it has checked every commit up to this version; None: no commit. ``unknown_batches``: some of
    them were of batches that it does not know. ``knows``: returns which of some batch ids it knows.
    """

    until: int | None
    unknown_batches: bool
    knows: Callable[[Collection[str]], Collection[str]]


def commit_of(spec: StoreSpec, batch_id: str, built_on: int, newest: int) -> Commit:
    """Return the commit of the batch: the first one that names it after the version it was built on.

    It is the next version unless other writers were faster. Commits older than the log's retention are not found.
    """
    for version in range(built_on + 1, min(newest, built_on + _MOST_COMMITS_BETWEEN) + 1):
        actions = read_actions(spec, version)
        if any(action.get("txn", {}).get("appId") == batch_id for action in actions or ()):
            return Commit(version, read_info(actions or []).get("cropline.rows"))
    return Commit(None, None)


def has_unknown_commits(spec: StoreSpec, memory: Memory, newest: int) -> bool:
    """Return whether a commit since the last check may have added crops of a batch that the state does not know.

    This is also true when the log no longer reaches back far enough, or when the table is older than the
    state remembers.
    """
    if memory.until is not None and memory.until > newest:
        return True  # restored from a backup: where the state says that rows are, they are not
    first = 0 if memory.until is None else memory.until + 1
    if newest - first >= _ENTRIES_AT_MOST:
        return True
    for version in range(first, newest + 1):
        actions = read_actions(spec, version)
        if actions is None or _is_unknown(actions, memory):
            return True
    return False


def _is_unknown(actions: list[dict[str, Any]], memory: Memory) -> bool:
    if not any(action["add"].get("dataChange", True) for action in actions if "add" in action):
        return False
    info = read_info(actions)
    batch = info.get("cropline.batch")
    if batch is not None:
        return batch not in memory.knows([batch])
    return STEP not in info and info.get("operation") not in _BRINGS_NOTHING


def read_actions(spec: StoreSpec, version: int) -> list[dict[str, Any]] | None:
    """Return the actions of a commit. None: the log has no entry of this version. Raise CatalogueError for a damaged one."""
    data = storage.read_if_there(spec, entry_key(version))
    try:
        return None if data is None else [json.loads(line) for line in data.splitlines() if line.strip()]
    except ValueError:
        raise CatalogueError(f"{spec.uri(entry_key(version))} is damaged: it is not JSON") from None


def entry_key(version: int) -> str:
    """Return the key of a version's entry, below the table."""
    return f"{LOG}/{version:020d}.json"


def read_info(actions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a commit tells about itself: its time (``timestamp``, ms), its operation, its properties."""
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    return info

"""The table's log, entry by entry: where a batch was committed, and whether others than a state's own batches wrote here."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from cropline.core import storage
from cropline.core.store_spec import StoreSpec

# The key under which a commit says which of our own steps made it; it brings no new crops.
STEP = "cropline.step"

# Other commits that may have come between reading the table and committing a batch.
_MOST_COMMITS_BETWEEN = 200
# A state that has not looked for longer than so many commits takes them for unknown: that costs time, never a row.
_ENTRIES_AT_MOST = 1_000
# They take rows away, or lay them out anew.
_BRINGS_NOTHING = {"DELETE", "OPTIMIZE", "VACUUM START", "VACUUM END", "CREATE TABLE", "ADD COLUMN"}


@dataclass(frozen=True)
class Commit:
    """A batch's commit. ``rows`` is what it added; ``version`` None: the log no longer has it."""

    version: int | None
    rows: int | None


@dataclass(frozen=True)
class Memory:
    """What a state database remembers of the table's commits.

    ``until``: it has looked at every commit up to this version; None: at none. ``strangers``: some of them were not of its own
    batches. ``knows``: those of some batch ids that are its own.
    """

    until: int | None
    strangers: bool
    knows: Callable[[Collection[str]], Collection[str]]


def commit_of(spec: StoreSpec, batch_id: str, built_on: int, newest: int) -> Commit:
    """The commit that holds the batch: the first one after the version it was built on that names it.

    It is the very next one unless other writers were faster. Commits older than the log's retention are not found.
    """
    for version in range(built_on + 1, min(newest, built_on + _MOST_COMMITS_BETWEEN) + 1):
        actions = _actions(spec, version)
        if any(action.get("txn", {}).get("appId") == batch_id for action in actions or ()):
            return Commit(version, _info(actions or []).get("cropline.rows"))
    return Commit(None, None)


def has_unknown_commits(spec: StoreSpec, memory: Memory, newest: int) -> bool:
    """Whether a commit since the state last looked may have brought crops of a batch that the state does not know.

    A log that no longer reaches back may hide one, and so may a table that is older than what the state remembers.
    """
    first = 0 if memory.until is None or memory.until > newest else memory.until + 1
    if newest - first >= _ENTRIES_AT_MOST:
        return True
    for version in range(first, newest + 1):
        actions = _actions(spec, version)
        if actions is None or _is_strange(actions, memory):
            return True
    return False


def _is_strange(actions: list[dict[str, Any]], memory: Memory) -> bool:
    if not any(action["add"].get("dataChange", True) for action in actions if "add" in action):
        return False
    info = _info(actions)
    batch = info.get("cropline.batch")
    if batch is not None:
        return batch not in memory.knows([batch])
    return STEP not in info and info.get("operation") not in _BRINGS_NOTHING


def _actions(spec: StoreSpec, version: int) -> list[dict[str, Any]] | None:
    key = f"_delta_log/{version:020d}.json"
    if not storage.exists(spec, key):
        return None
    return [json.loads(line) for line in storage.read(spec, key).splitlines()]


def _info(actions: list[dict[str, Any]]) -> dict[str, Any]:
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    return info

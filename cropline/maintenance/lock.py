"""Keeps erasures of a source out while maintenance writes what an erasure would have to remove."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cropline.pipeline.heartbeat import Heartbeat

if TYPE_CHECKING:
    from cropline.state import State


class ErasureLock:
    """The lock that is held, or nothing to hold in a dry run."""

    def __init__(self, state: State, source: str, holder: str) -> None:
        self._state, self._source, self._holder = state, source, holder

    def renew(self) -> None:
        """Raise StaleLease when another process has taken the lock over."""
        if self._holder:
            self._state.renew_erasure_lock(self._source, self._holder)


@contextmanager
def erasure_lock(state: State, source: str, *, dry_run: bool = False) -> Iterator[ErasureLock | None]:
    """Hold the lock of erasures; None while an erasure runs. A dry run needs none."""
    holder = "" if dry_run else secrets.token_hex(8)
    if dry_run:
        yield ErasureLock(state, source, holder)
    elif not state.acquire_erasure_lock(source, holder):
        yield None
    else:
        lock = ErasureLock(state, source, holder)
        try:
            with Heartbeat(lock.renew, state.lease.total_seconds() / 3, f"packs of {source}"):
                yield lock
        finally:
            state.release_erasure_lock(source, holder)

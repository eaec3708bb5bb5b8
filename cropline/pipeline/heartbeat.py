"""Renews a lease in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from cropline.core.errors import StaleLease, StateError


class Heartbeat:
    """A context manager that renews a lease, of a batch or of the run itself, in a thread."""

    def __init__(self, renew: Callable[[], None], every_s: float, of: str) -> None:
        self._lost: StaleLease | None = None
        self._renew, self._every_s = renew, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease of {of}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raise StaleLease when another process has taken the lease."""
        if self._lost is not None:
            raise StaleLease(str(self._lost))

    def _beat(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._renew()
            except StaleLease as error:
                self._lost = error
                return
            except StateError:
                continue  # the database may come back before the lease expires; the commit decides, not this thread

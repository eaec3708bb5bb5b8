"""Reads what the exporter shows. Slow figures are read in the background, so that no scrape waits for them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cropline.core.errors import CroplineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cropline.catalogue.size import CatalogueSize
    from cropline.core.store_spec import StoreSpec
    from cropline.state import ReasonCount, State, StateMetrics

SLOW_EVERY = timedelta(seconds=60)


@dataclass(frozen=True)
class SlowFigures:
    """Figures whose cost grows with failures or with the catalogue, read at ``at``. ``catalogue`` None: none yet."""

    at: datetime
    reasons: Sequence[ReasonCount]
    catalogue: CatalogueSize | None


class Figures:
    """The figures of one installation. Threads may share it."""

    def __init__(
        self,
        state: State,
        storage: StoreSpec,
        *,
        window: timedelta,
        on_error: Callable[[CroplineError], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``on_error`` gets each error of the background read; the last good figures stay."""
        self.window = window
        self._state, self._storage, self._on_error, self._now = state, storage, on_error, now
        self._slow: SlowFigures | None = None
        self._reading = threading.Lock()

    def fast(self) -> StateMetrics:
        """Return the figures of now. Raises StateError."""
        return self._state.metrics(window=self.window)

    def slow(self) -> SlowFigures | None:
        """Return the slow figures as last read, None before the first. When they are old, start to read them again."""
        if self._slow is None or self._now() - self._slow.at >= SLOW_EVERY:
            threading.Thread(target=self.refresh, name="slow figures", daemon=True).start()
        return self._slow

    def refresh(self) -> None:
        """Read the slow figures now. Return at once when another thread reads them."""
        from cropline.catalogue.size import catalogue_size

        if not self._reading.acquire(blocking=False):
            return
        try:
            at = self._now()
            self._slow = SlowFigures(at, self._state.reasons(), catalogue_size(self._storage))
        except CroplineError as error:
            self._on_error(error)
        finally:
            self._reading.release()

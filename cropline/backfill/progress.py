"""Counts how far a run is with its plan, by day of capture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cropline.backfill.classify import WorkItem
from cropline.backfill.plan import Slice, day_of


@dataclass
class DayProgress:
    """Work items of one day. ``elsewhere``: another run has them, or they will be tried again later."""

    day: str
    planned: int = 0
    done: int = 0
    failed: int = 0
    elsewhere: int = 0

    @property
    def left(self) -> int:
        return self.planned - self.done - self.failed - self.elsewhere


class Progress:
    """Counts each work item of a plan once, when it ends."""

    def __init__(self, work_items: Iterable[WorkItem]) -> None:
        self._days: dict[str, DayProgress] = {}
        for work in work_items:
            self._days.setdefault(day_of(work), DayProgress(day_of(work))).planned += 1
        self.stopped: str | None = None

    def settle(self, part: Slice, states: Mapping[tuple[str, str], str]) -> None:
        """Count a slice that has ended. ``states``: (image id, profile) -> current state."""
        for work in part.work_items:
            day = self._days[day_of(work)]
            state = states.get((work.image_id, work.profile))
            if state == "done":
                day.done += 1
            elif state in ("failed", "dead", "quarantined"):
                day.failed += 1
            else:
                day.elsewhere += 1

    @property
    def days(self) -> list[DayProgress]:
        """Newest first."""
        return sorted(self._days.values(), key=lambda day: day.day, reverse=True)

    @property
    def planned(self) -> int:
        return sum(day.planned for day in self._days.values())

    @property
    def left(self) -> int:
        return sum(day.left for day in self._days.values())

    @property
    def percent(self) -> float:
        return 100.0 * (self.planned - self.left) / self.planned if self.planned else 100.0

"""Estimates what a run with a plan and limits would do. A dry run shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cropline.backfill.cost import Cost, cost_of
from cropline.backfill.plan import Budget, Day, Plan, by_day, slices
from cropline.backfill.request import Limits
from cropline.state import BatchState


@dataclass(frozen=True)
class Estimate:
    """What a run would do. ``days``: by day of capture. ``stopped``: the limit that would end it."""

    wanted: int  # photos
    cost: Cost
    days: Sequence[Day]
    left: Sequence[tuple[str, str, int]]  # what would not be done: reason, unit, count
    stopped: str | None
    note: str | None

    @property
    def verdict(self) -> str:
        """One sentence that says what would be done."""
        if not self.wanted:
            return "There is nothing to do."
        if not self.cost.images:
            return f"The limits allow none of the {self.wanted:,} wanted photos ({self.stopped})."
        limited = f" of {self.wanted:,} wanted photos, until a limit stops it ({self.stopped})"
        return (
            f"{self.cost.crops:,} crops from {self.cost.images:,} {'photo' if self.cost.images == 1 else 'photos'}"
            f"{limited if self.stopped else ''}, "
            f"in {self.cost.batches:,} {'batch' if self.cost.batches == 1 else 'batches'}."
        )


def estimate(plan: Plan, limits: Limits, *, batch_images: int, last: Sequence[BatchState]) -> Estimate:
    """Return the estimate. ``last``: the latest batches of the state, for the speed."""
    budget = Budget(limits)
    parts = list(slices(plan.work_items, batch_images, budget))
    lands = any(listing.key is None for listing in plan.listings)
    return Estimate(
        wanted=plan.images,
        cost=cost_of(parts, last, calls=plan.calls, lands=lands, at_once=limits.concurrency),
        days=by_day(work for part in parts for work in part.work_items),
        left=_left(plan),
        stopped=budget.stopped,
        note=plan.note,
    )


def _left(plan: Plan) -> list[tuple[str, str, int]]:
    """Return work items first, then announced rows that do not count."""
    work_items = [(why, "photo and profile", count) for why, count in plan.left.most_common()]
    rows = [(why, "announced row", count) for why, count in plan.outside.most_common()]
    bad = [("bad, goes to quarantine", "announced row", len(plan.bad))] if plan.bad else []
    return [*work_items, *bad, *rows]

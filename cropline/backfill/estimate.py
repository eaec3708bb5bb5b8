"""What a run with a plan and these limits would do, to the last photo: the dry run's answer.

Belongs here: putting slices, days and the estimate together. Does not: showing them (report/backfill.py and the CLI).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cropline.backfill.cost import Cost, cost_of
from cropline.backfill.plan import Budget, Day, Plan, by_day, slices
from cropline.backfill.request import Limits
from cropline.state import BatchState


@dataclass(frozen=True)
class Estimate:
    """``days``: what would be done, by day of capture. ``left``: what would not, and why. ``stopped``: by which limit."""

    wanted: int  # photos
    cost: Cost
    days: Sequence[Day]
    left: Sequence[tuple[str, str, int]]  # why, what of, how many
    stopped: str | None
    note: str | None

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.wanted:
            return "There is nothing to do."
        if not self.cost.images:
            return f"Of the {self.wanted:,} photos that are wanted the limits allow none ({self.stopped})."
        limited = f" of the {self.wanted:,} that are wanted, then the limits stop it ({self.stopped})"
        return (
            f"{self.cost.crops:,} crops from {self.cost.images:,} {'photo' if self.cost.images == 1 else 'photos'}"
            f"{limited if self.stopped else ''}, "
            f"in {self.cost.batches:,} {'batch' if self.cost.batches == 1 else 'batches'}."
        )


def estimate(plan: Plan, limits: Limits, *, batch_images: int, last: Sequence[BatchState]) -> Estimate:
    """``last``: the state's last batches, for the estimate of time."""
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
    """Works first, then announced rows that do not count."""
    work_items = [(why, "photo and profile", count) for why, count in plan.left.most_common()]
    rows = [(why, "announced row", count) for why, count in plan.outside.most_common()]
    bad = [("bad, goes to quarantine", "announced row", len(plan.bad))] if plan.bad else []
    return [*work_items, *bad, *rows]

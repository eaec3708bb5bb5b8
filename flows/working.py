"""Working off a plan: slice by slice, as many at once as asked, each batch freed whatever ends the work on it.

Belongs here: what backfill and replay share around their steps. Does not: any step, or what is planned.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cropline.backfill.foresee import Foreseen, foresee
from cropline.backfill.plan import Budget, Plan, Slice, slices
from cropline.backfill.progress import Progress
from cropline.backfill.request import Limits
from cropline.report.backfill import plan_markdown
from cropline.run import Run
from tasks.check import check
from tasks.claim import freed_on_failure
from tasks.commit import commit, committed_crops
from tasks.crop import crop
from tasks.enlist import enlist, quarantine_bad
from tasks.forget import finish_erasures
from tasks.harmless import harmless
from tasks.progress import ProgressBoard
from tasks.show import show

if TYPE_CHECKING:
    import pyarrow as pa
    from prefect.futures import PrefectFuture

    from cropline.state import Batch


class Stopping(Exception):
    """Another batch of this run failed, or the run was cancelled: this one ends too."""


def show_plan(run: Run, plan: Plan, limits: Limits) -> Foreseen:
    """The dry run's answer, also as an artifact: exactly what a run with these limits would do."""
    last = run.state.report(last_batches=20).batches
    foreseen = foresee(plan, limits, batch_images=run.settings.batch.images, last=last)
    with harmless("the plan"):
        show(
            "markdown", f"{run.context.flow_name}-plan", plan_markdown(run.context.run_name, foreseen), foreseen.verdict
        )
    return foreseen


def work_off(run: Run, plan: Plan, limits: Limits) -> str | None:
    """Do the plan as far as the limits go. Gives the limit that stopped it, or None when everything was done."""
    _finish_abandoned(run)
    if plan.bad:
        quarantine_bad(run, plan)
    budget = Budget(limits)
    progress = Progress(plan.works)
    board = ProgressBoard(run.context.flow_name, run.context.run_name, progress)
    hands = _Hands(run, plan, limits.concurrency)
    for part in hands.work(slices(plan.works, run.settings.batch.images, budget)):
        progress.settle(part, _states(run, part))
        board.update()
    board.update(f"stopped by its limit: {budget.stopped}; run it again to go on" if budget.stopped else None)
    return budget.stopped


def _finish_abandoned(run: Run) -> None:
    """Batches of runs that died or were cancelled come first, whole. They are not charged to the limits."""
    source = run.settings.api.source
    while (batch := run.state.resume(owner=run.context.flow_run_id, source=source)) is not None:
        run.funnel.batches += 1
        run.funnel.resumed += 1
        with freed_on_failure(run, batch) as started_at:
            held = committed_crops(run, batch)
            crops = commit(run, batch, crop(run, batch) if held is None else held, started_at)
        check(run, batch, crops)
        finish_erasures(run)


def _states(run: Run, part: Slice) -> dict[tuple[str, str], str]:
    found = run.state.find_images(
        sources=[run.settings.api.source], images=part.image_ids, limit=1_000 * max(1, part.count)
    )
    return {(work.image_id, work.profile): work.state for work in found}


@dataclass
class _InHand:
    """A claimed batch; ``held`` frees it when the work on it ends badly."""

    part: Slice
    batch: Batch
    started_at: datetime
    held: ExitStack
    crops: PrefectFuture[pa.Table] | None


class _Hands:
    """Takes slices up to ``at_once`` at a time and gives them back as they are done."""

    def __init__(self, run: Run, plan: Plan, at_once: int) -> None:
        self._run, self._plan, self._at_once = run, plan, at_once
        self._held: deque[_InHand] = deque()

    def work(self, parts: Iterable[Slice]) -> Iterable[Slice]:
        try:
            for part in parts:
                batch = enlist(self._run, self._plan, part)
                if batch is None:  # other runs have all of it
                    yield part
                    continue
                self._take(part, batch)
                if len(self._held) >= self._at_once:
                    yield self._finish()
            while self._held:
                yield self._finish()
        except BaseException:
            self._let_go()
            raise

    def _take(self, part: Slice, batch: Batch) -> None:
        held = ExitStack()
        started_at = held.enter_context(freed_on_failure(self._run, batch))
        in_hand = _InHand(part, batch, started_at, held, None)
        self._held.append(in_hand)
        if self._at_once > 1:
            in_hand.crops = crop.submit(self._run, batch)

    def _finish(self) -> Slice:
        """The oldest batch. It stays in hand until it is committed."""
        oldest = self._held[0]
        crops = crop(self._run, oldest.batch) if oldest.crops is None else oldest.crops.result()
        crops = commit(self._run, oldest.batch, crops, oldest.started_at)
        self._held.popleft().held.close()
        check(self._run, oldest.batch, crops)
        finish_erasures(self._run)
        return oldest.part

    def _let_go(self) -> None:
        """Free every batch in hand, and stop the threads that cut them."""
        self._run.on_progress = _stop
        why = sys.exc_info()
        while self._held:
            try:
                self._held.popleft().held.__exit__(*why)
            except BaseException as error:
                if error is not why[1]:
                    raise


def _stop(stage: str, more: int, total: int) -> None:
    raise Stopping(f"{stage}: the run ends after {more} of {total}")

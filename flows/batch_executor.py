"""Processes a plan slice by slice, with the requested concurrency. Shared by backfill and replay."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from contextvars import copy_context
from typing import TYPE_CHECKING

from cropline.backfill.estimate import Estimate, estimate
from cropline.backfill.plan import Budget, Plan, Slice, slices
from cropline.backfill.progress import Progress
from cropline.backfill.report import plan_markdown
from cropline.backfill.request import Limits
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.run import Run
from tasks.claim_planned import claim_planned_task, quarantine_task
from tasks.harmless import harmless
from tasks.process_batch import BatchResult, process_batch
from tasks.progress import ProgressBoard
from tasks.show import show

if TYPE_CHECKING:
    from collections.abc import Iterable

# A cancelled run has only seconds left. A batch that is not released by then is resumed when its lease ends.
_STOP_S = 10


def show_plan(run: Run, plan: Plan, limits: Limits) -> Estimate:
    """Return the estimate of a run with these limits, and show it as an artifact."""
    last = run.state.report(last_batches=20).batches
    estimated = estimate(plan, limits, batch_images=run.settings.batch.images, last=last)
    with harmless("the plan"):
        show(
            "markdown",
            run.settings.named(f"{run.context.flow_name}-plan"),
            plan_markdown(run.context.run_name, estimated),
            estimated.verdict,
        )
    return estimated


def execute_plan(run: Run, plan: Plan, limits: Limits) -> str | None:
    """Process the plan within the limits. Return the limit that stopped it, or None when everything is done."""
    _finish_abandoned(run)
    run.add(_validated(plan))
    if plan.bad:
        quarantine_task(run, plan)
    budget = Budget(limits)
    progress = Progress(plan.work_items)
    board = ProgressBoard(run.settings.named(run.context.flow_name), run.context.run_name, progress)
    parts = slices(plan.work_items, run.settings.batch.images, budget)
    at_once = limits.concurrency
    # Closing the generator releases open batches, whatever ends the loop.
    with closing(_one_by_one(run, plan, parts) if at_once == 1 else _several(run, plan, parts, at_once)) as done:
        for part in done:
            progress.settle(part, _states(run, part))
            board.update()
    board.update(f"stopped by its limit: {budget.stopped}; run it again to continue" if budget.stopped else None)
    return budget.stopped


def _validated(plan: Plan) -> Funnel:
    """Return the counts of a plan's rows; empty without bad rows, since batches count the rest."""
    bad = len(plan.bad) + plan.still_bad_rows
    if not bad:
        return Funnel()
    rows = plan.good + bad
    broken = Counter(name for row in plan.bad for name in row.broken) + plan.still_bad
    return Funnel(polled=rows, landed=rows, valid=plan.good, quarantined=bad, broken=broken, hints=dict(plan.hints))


def _finish_abandoned(run: Run) -> None:
    """Process batches of dead or cancelled runs first. They do not count towards the limits."""
    source = run.settings.api.source
    while (batch := run.state.resume(owner=run.context.flow_run_id, source=source)) is not None:
        process_batch(run, batch)


def _states(run: Run, part: Slice) -> dict[tuple[str, str], str]:
    found = run.state.find_images(
        sources=[run.settings.api.source], images=part.image_ids, limit=1_000 * max(1, part.count)
    )
    return {(work.image_id, work.profile): work.state for work in found}


def _one_by_one(run: Run, plan: Plan, parts: Iterable[Slice]) -> Generator[Slice]:
    """Process the slices in this thread, which receives signals. Yield each when it is done."""
    for part in parts:
        batch = claim_planned_task(run, plan, part)
        if batch is not None:  # None: other runs have claimed all of it
            process_batch(run, batch)
        yield part


def _several(run: Run, plan: Plan, parts: Iterable[Slice], at_once: int) -> Generator[Slice]:
    """Process up to ``at_once`` slices at a time, each in a thread. Yield them in their order."""
    held: deque[tuple[Slice, Future[BatchResult]]] = deque()
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="batch")
    try:
        for part in parts:
            batch = claim_planned_task(run, plan, part)
            if batch is None:
                yield part
                continue
            held.append((part, threads.submit(copy_context().run, process_batch, run, batch)))
            if len(held) == at_once:
                yield _ended(held)
        while held:
            yield _ended(held)
    except BaseException:
        run.stop()  # each thread releases its own batch
        wait([future for _, future in held], timeout=_STOP_S)
        raise
    finally:
        threads.shutdown(wait=False)


def _ended(held: deque[tuple[Slice, Future[BatchResult]]]) -> Slice:
    """Wait for the oldest slice and return it. Raises what its batch raised."""
    part, future = held[0]
    future.result()
    held.popleft()
    return part

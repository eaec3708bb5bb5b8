"""The replay deployment: tries failed work again after its cause is fixed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from cropline.backfill.estimate import Estimate
from cropline.backfill.request import Ended, Limits, Order, Photos
from cropline.pipeline.funnel import Funnel
from flows.batch_executor import execute_plan, show_plan
from flows.running import Source, open_run
from tasks.plan import Replayed, plan_replay


def _name() -> str:
    asked = runtime.flow_run.parameters
    kind = "dry run of " if asked["dry_run"] else ""
    of = f" of {asked['source']}" if asked.get("source") else ""
    return f"replay {kind}{', '.join(asked['ended'])}{of}, requested {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


@flow(name="replay", flow_run_name=_name, persist_result=False)
def replay(
    ended: Annotated[
        list[Ended],
        Field(
            title="What ended",
            min_length=1,
            description="failed: waits for its next try; dead: no tries left; quarantined: broke an expectation, and is "
            "validated again by the current ones; partial: done, but some boxes failed permanently",
        ),
    ] = ["failed", "dead"],  # noqa: B006 - Prefect copies it
    reasons: Annotated[
        list[str],
        Field(title="Reasons", description="reason codes (docs/failures.md) or expectations; empty: every reason"),
    ] = [],  # noqa: B006
    manifests: Annotated[
        list[str],
        Field(title="Manifests", description="for quarantined rows: storage keys, or the ends of them; empty: all"),
    ] = [],  # noqa: B006
    photos: Annotated[Photos, Field(title="Which photos")] = Photos(),  # noqa: B008 - frozen
    order: Annotated[Order, Field(title="Order", description="which photos come first, by capture time")] = "newest",
    dry_run: Annotated[
        bool, Field(title="Dry run", description="show what would be tried again and why; do nothing")
    ] = False,
    limits: Annotated[Limits, Field(title="Limits")] = Limits(),  # noqa: B008 - frozen
    source: Source = None,
) -> Funnel | Estimate:
    """Try again what failed, is dead, or is in quarantine.

    **What it does.** Finds work items by how they ended, reason, store, camera and capture time, requeues them with all
    of their tries, and crops them. Quarantined rows are mapped and validated again by the current settings. Good rows
    become crops and are marked as replayed; the others stay. Work that succeeded is never repeated. The image API is
    asked only for fresh URLs of photos whose URL is signed.

    **First** fix the cause: docs/failures.md says what to do for each reason. A dry run counts the work items.

    **When it fails.** See `process`. Run it again. Cancel it at any time: work that it has not started stays as it was.
    """
    with open_run("replay", source) as run:
        planned = plan_replay(run, Replayed(photos, ended, reasons, order, manifests))
        if dry_run:
            return show_plan(run, planned, limits)
        execute_plan(run, planned, limits)
        return run.funnel

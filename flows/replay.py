"""The replay deployment: what ended badly is tried again, after whatever was wrong is mended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from cropline.backfill.estimate import Estimate
from cropline.backfill.request import Ended, Limits, Order, Photos
from cropline.pipeline.funnel import Funnel
from flows.batch_executor import execute_plan, show_plan
from flows.running import open_run
from tasks.plan import Replayed, plan_replay


def _name() -> str:
    asked = runtime.flow_run.parameters
    kind = "dry run of " if asked["dry_run"] else ""
    return f"replay {kind}{', '.join(asked['ended'])}, asked {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


@flow(name="replay", flow_run_name=_name, persist_result=False)
def replay(
    ended: Annotated[
        list[Ended],
        Field(
            title="What ended",
            min_length=1,
            description="failed: waits for its next try; dead: out of tries; quarantined: broke an expectation and is "
            "judged again by today's; partial: done, but some of its boxes failed for good",
        ),
    ] = ["failed", "dead"],  # noqa: B006 - Prefect copies it
    reasons: Annotated[
        list[str],
        Field(title="Reasons", description="reason codes (docs/failures.md) or expectations; empty is every reason"),
    ] = [],  # noqa: B006
    manifests: Annotated[
        list[str],
        Field(
            title="Manifests", description="of quarantined rows: storage keys, or the ends of them; empty is every one"
        ),
    ] = [],  # noqa: B006
    photos: Annotated[Photos, Field(title="Which photos")] = Photos(),  # noqa: B008 - frozen
    order: Annotated[Order, Field(title="Order", description="which photos come first, by capture time")] = "newest",
    dry_run: Annotated[
        bool, Field(title="Dry run", description="say what would be tried again and why; do nothing")
    ] = False,
    limits: Annotated[Limits, Field(title="Limits")] = Limits(),  # noqa: B008 - frozen
) -> Funnel | Estimate:
    """Try again what failed, is dead, or lies in quarantine.

    **What it does.** Finds the works in the state table by how they ended, by reason, store, camera and capture time,
    gives them all of their tries back and crops them. Quarantined rows are found in quarantine and judged again by today's
    expectations; those that are good now become crops and are marked as replayed, the others stay. What succeeded is
    never repeated. The image API is asked only for fresh URLs of photos whose URL is signed.

    **Before it.** Mend the cause: docs/failures.md says for each reason what to do. A dry run shows how many works that is.

    **When it fails.** As `process` does; run it again. Cancel it whenever you like: what it has not begun stays as it was.
    """
    with open_run("replay") as run:
        planned = plan_replay(run, Replayed(photos, ended, reasons, order, manifests))
        if dry_run:
            return show_plan(run, planned, limits)
        execute_plan(run, planned, limits)
        return run.funnel

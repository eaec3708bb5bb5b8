"""forget: runs an erasure as a step, and finishes erasures whose photos were in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import get_run_logger, task

from cropline.erasure import receipts
from cropline.erasure.report import erasure_lines
from cropline.pipeline.run import Run
from cropline.reports.links import web_links
from tasks.harmless import harmless
from tasks.options import STEP
from tasks.show import show

if TYPE_CHECKING:
    from cropline.erasure.erase import ErasureResult
    from cropline.erasure.selection import Selection

_SHOWN = 1_000  # characters of the selection; the receipt has all of it


@task(name="forget", task_run_name="forget photos", **STEP)
def forget_photos(run: Run, photos: Selection, dry_run: bool) -> ErasureResult:
    """Remove what was made from the photos, or count it in a dry run."""
    from cropline.erasure.erase import estimate, forget
    from cropline.erasure.events import event_emitter

    source = run.settings.api.source
    if dry_run:
        return estimate(run.spec, run.state, source, photos)
    return forget(run.spec, run.state, source, photos, event_emitter(run.settings, run.state))


def show_erasure(run: Run, photos: Selection, result: ErasureResult, dry_run: bool) -> None:
    """Show an erasure's result as an artifact, with its receipt."""
    from cropline.reports.summary import plain

    verdict, *more = erasure_lines(result, dry_run=dry_run)
    lines = [f"## {run.context.run_name}", f"**{verdict}**", *more, f"Selection: `{plain(photos.text)[:_SHOWN]}`"]
    if result.receipt is not None:
        where = run.spec.uri(result.receipt)
        link = web_links([("receipt", where)], run.spec, run.settings.storage.browse_url).get("receipt")
        lines.append(f"[Receipt]({link}): `{where}`" if link else f"Receipt: `{where}`")
    with harmless("the summary"):
        show("markdown", run.settings.named("forget-summary"), "\n\n".join(lines) + "\n", verdict)


def recall_erasures(run: Run) -> None:
    """Restore erasures from their receipts after a loss or a restore of the state. Usually there are none."""
    found = receipts.unknown(run.spec, run.state)
    if found:
        from cropline.erasure.recall import recall

        recall(run.spec, run.state, found)
        get_run_logger().warning(
            "%d erasures restored from their receipts: their photos are not cropped again", len(found)
        )
        finish_erasures(run)


def finish_erasures(run: Run) -> None:
    """Erase what batches wrote of photos that were forgotten in the meantime. Not a task: usually there is nothing."""
    for erasure in [one for name in run.settings.source_names for one in run.state.unfinished_erasures(name)]:
        from cropline.erasure.erase import finish
        from cropline.erasure.events import event_emitter

        result = finish(run.spec, run.state, erasure, event_emitter(run.settings, run.state))
        get_run_logger().info("erasure %s: %s", result.erasure_id, " ".join(erasure_lines(result, dry_run=False)))

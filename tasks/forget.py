"""forget: erasures that met photos in work are brought to their end, as soon as nobody holds these photos any more.

Belongs here: calling the erasure from a run. Does not: the erasure itself (cropline/erasure); ``cropline forget`` begins one.
"""

from __future__ import annotations

from prefect import get_run_logger

from cropline.run import Run


def finish_erasures(run: Run) -> None:
    """Remove what a batch brought of photos that were forgotten meanwhile. Not a task: nearly always there is nothing."""
    for erasure in run.state.unfinished_erasures(run.settings.api.source):
        from cropline.erasure import finish, teller

        erased = finish(run.spec, run.state, erasure, teller(run.settings, run.state))
        get_run_logger().info(
            "erasure %s: %d photos, %d rows, %d objects, %d photos still in work",
            erased.erasure_id,
            erased.images,
            erased.rows,
            erased.objects,
            erased.in_work,
        )

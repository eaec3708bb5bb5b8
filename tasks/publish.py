"""publish: drain the outbox to the lineage collector. At least once; a dead collector never fails or holds up a run."""

from __future__ import annotations

import json

from prefect import get_run_logger, task

from cropline.run import Run
from tasks.options import STEP

_AT_A_TIME = 500


@task(name="publish", task_run_name="publish lineage", **STEP)
def publish(run: Run) -> int:
    """Send what waits, oldest first; gives how many were taken. What was not taken waits for the next run."""
    from cropline.lineage import Publisher

    publisher = Publisher(run.settings.lineage, run.spec)
    sent = 0
    while events := run.state.pending_events(_AT_A_TIME):
        result = publisher.publish([json.loads(event.payload) for event in events])
        arrived = [event.event_id for event, to in zip(events, result.deliveries, strict=True) if to.ok]
        refused = [
            event.event_id for event, to in zip(events, result.deliveries, strict=True) if to.tried and not to.ok
        ]
        run.state.mark_published(arrived)
        sent += len(arrived)
        if refused:
            run.state.mark_publish_failed(refused, result.reason or "")
        if not result.complete:
            get_run_logger().warning("lineage: %s; what is left waits for the next run", result.reason)
            break
    return sent

"""Warnings of drift: into the run's summary, its log and, as events, to Prefect's automations. They never block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefect import get_run_logger
from prefect.events import emit_event

from cropline.run import Run
from cropline.scrub import one_line

if TYPE_CHECKING:
    from expectations.drift import Drift


def warn(run: Run, found: Sequence[Drift]) -> None:
    """Show what is unusual. An automation may listen to ``cropline.drift.*``."""
    for drift in found:
        message = one_line(drift.message)
        run.funnel.warnings.append((drift.kind, message))
        get_run_logger().warning("%s: %s", drift.kind, message)
        camera = f"{drift.store_id or 'any'}.{drift.camera_id or 'any'}"
        emit_event(
            event=f"cropline.drift.{drift.kind}",
            resource={
                "prefect.resource.id": f"cropline.camera.{run.settings.api.source}.{camera}",
                "prefect.resource.name": camera,
            },
            payload={"message": message, "evidence": dict(drift.evidence)},
        )

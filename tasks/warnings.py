"""Drift warnings: adds them to the run's summary and log, and emits them as Prefect events. They never block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefect import get_run_logger
from prefect.events import emit_event

from cropline.core.scrub import one_line
from cropline.pipeline.run import Run

if TYPE_CHECKING:
    from drift.detect import Drift


def warn(run: Run, found: Sequence[Drift]) -> list[tuple[str, str]]:
    """Log and emit drift, and return it for the run's counts. Automations can listen to ``cropline.drift.*``."""
    told: list[tuple[str, str]] = []
    for drift in found:
        message = one_line(f"{_whose(drift)}{drift.message} ({_numbers(drift)})", 500)
        told.append((drift.kind, message))
        get_run_logger().warning("%s: %s", drift.kind, message)
        camera = f"{drift.store_id or 'any'}.{drift.camera_id or 'any'}"
        emit_event(
            event=f"cropline.drift.{drift.kind}",
            resource={
                "prefect.resource.id": run.settings.resource("camera", f"{run.settings.api.source}.{camera}"),
                "prefect.resource.name": camera,
            },
            payload={"message": message, "evidence": _evidence(drift)},
        )
    return told


def _whose(drift: Drift) -> str:
    if drift.camera_id is None:
        return ""
    return f"camera {drift.camera_id or 'unknown'} in store {drift.store_id or 'unknown'}: "


def _numbers(drift: Drift) -> str:
    return ", ".join(f"{name} {value}" for name, value in _evidence(drift).items())


def _evidence(drift: Drift) -> dict[str, float | str]:
    """Return the evidence with scrubbed ids, because they come from outside."""
    return {name: one_line(value) if isinstance(value, str) else value for name, value in drift.evidence.items()}

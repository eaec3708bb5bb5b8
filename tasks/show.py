"""show: makes and updates artifacts of the run in the Prefect UI.

It does not use Prefect's ``create_..._artifact``: called from synchronous flows, those leave their connection open.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate


def show(
    kind: Literal["markdown", "table", "progress"],
    key: str,
    data: Any,
    description: str,
    shown: dict[str, UUID] | None = None,
) -> UUID:
    """Make one artifact of this run and return its id. ``key``: lower-case letters, digits and dashes.

    ``shown``: the artifacts of this run so far. One with the same key is updated instead.
    """
    if shown is not None and key in shown:
        with get_client(sync_client=True) as client:
            client.update_artifact(shown[key], ArtifactUpdate(data=data, description=description))
        return shown[key]
    artifact = ArtifactCreate(
        type=kind,
        key=key,
        data=data,
        description=description,
        flow_run_id=_id(runtime.flow_run.id),
        task_run_id=_id(runtime.task_run.id),
    )
    with get_client(sync_client=True) as client:
        made: UUID = client.create_artifact(artifact).id
    if shown is not None:
        shown[key] = made
    return made


def _id(text: str | None) -> UUID | None:
    return UUID(text) if text else None

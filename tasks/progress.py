"""progress: two artifacts that move while a backfill works, in the Prefect UI.

Belongs here: making and moving them. Does not: what they say (cropline/report/backfill.py). Apart from show.py, so that
an idle poll does not import what backfills are made of.
"""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from cropline.backfill.progress import Progress
from cropline.report.backfill import progress_markdown
from tasks.show import show


class ProgressBoard:
    """Two artifacts that move while the run works: a bar, and the days."""

    def __init__(self, key: str, title: str, progress: Progress) -> None:
        self._title, self._progress = title, progress
        self._bar = show("progress", f"{key}-progress", progress.percent, title)
        self._days = show("markdown", f"{key}-days", progress_markdown(title, progress, None), title)

    def update(self, ended: str | None = None) -> None:
        """Show how far it is. ``ended``: why the run ends here."""
        days = progress_markdown(self._title, self._progress, ended)
        with get_client(sync_client=True) as client:
            client.update_artifact(artifact_id=self._bar, artifact=ArtifactUpdate(data=self._progress.percent))
            client.update_artifact(artifact_id=self._days, artifact=ArtifactUpdate(data=days))

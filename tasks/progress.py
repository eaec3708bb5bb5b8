"""progress: two artifacts in the Prefect UI that show how far a backfill is.

It is separate from show.py, so that an idle poll does not import the modules of backfills.
"""

from __future__ import annotations

from uuid import UUID

from cropline.backfill.progress import Progress
from cropline.backfill.report import progress_markdown
from tasks.harmless import harmless
from tasks.show import show


class ProgressBoard:
    """Two artifacts that follow a run: a progress bar, and a table of days. A failure to show them fails no run."""

    def __init__(self, key: str, title: str, progress: Progress) -> None:
        self._key, self._title, self._progress = key, title, progress
        self._shown: dict[str, UUID] = {}
        self.update()

    def update(self, ended: str | None = None) -> None:
        """Show the current progress. ``ended``: why the run ends here."""
        with harmless("the progress"):
            show("progress", f"{self._key}-progress", self._progress.percent, self._title, self._shown)
            days = progress_markdown(self._title, self._progress, ended)
            show("markdown", f"{self._key}-days", days, self._title, self._shown)

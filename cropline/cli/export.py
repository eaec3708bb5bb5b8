"""``cropline export``: copy crops that match a condition into a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cropline.config.settings import load_installation
from cropline.core.screen import Screen
from cropline.export import export


def run_export(out: Path, where: str | None, kind: str, limit: int | None, profiles: Sequence[str]) -> None:
    """Export, and print what was written."""
    done = export(load_installation().storage.spec, out, where=where, kind=kind, limit=limit, profiles=profiles)
    screen = Screen()
    screen.print(f"{done.crops:,} crops, {done.bytes / 1e6:,.1f} MB: {done.folder}", soft_wrap=True)
    if done.no_numbers:
        screen.print(f"{done.no_numbers:,} values were NaN or infinite; they are null in the export.", soft_wrap=True)
    if not done.crops:
        screen.print("No written crop matches the condition; the export is empty.", soft_wrap=True)

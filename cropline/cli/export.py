"""cropline export: crops of a condition into a local folder."""

from __future__ import annotations

from pathlib import Path

from cropline.cli.screen import Screen
from cropline.export import export
from cropline.settings import load_settings


def run_export(out: Path, where: str | None, kind: str, limit: int | None) -> None:
    """Export, and say what was written."""
    done = export(load_settings().storage.spec, out, where=where, kind=kind, limit=limit)
    screen = Screen()
    screen.print(f"{done.crops:,} crops, {done.bytes / 1e6:,.1f} MB: {done.folder}", soft_wrap=True)
    if not done.crops:
        screen.print("No written crop fulfils the condition: what lies there is an empty export.", soft_wrap=True)

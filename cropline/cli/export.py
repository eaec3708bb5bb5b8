"""``cropline export``: copy crops that match a condition into a local folder."""

from __future__ import annotations

from pathlib import Path

from cropline.config.settings import load_installation
from cropline.core.errors import ExportError
from cropline.core.screen import Screen
from cropline.export import Choice, Exported, Layout, export, read_split

_SHOWN = 5


def run_export(
    out: Path,
    choice: Choice,
    kind: str,
    *,
    split: str | None,
    by: str | None,
    categories: Path | None,
    with_photos: bool,
) -> None:
    """Export, and print what was written."""
    if by is not None and split is None:
        raise ExportError("--by says what a split keeps together: give --split too")
    if kind != "coco" and (with_photos or categories is not None):
        raise ExportError(f"{'--with-photos' if with_photos else '--categories'} is for --format coco")
    settings = load_installation()
    cutter = None
    if with_photos:
        from cropline.cli.export_photos import photo_cutter

        cutter = photo_cutter(settings)
    layout = Layout(kind, read_split(split, by) if split else None, categories, cutter)
    _show(export(settings.storage.spec, out, choice, layout))


def _show(done: Exported) -> None:
    screen = Screen()
    screen.print(
        f"{done.crops:,} crops, {done.bytes / 1e6:,.1f} MB, of version {done.version:,}: {done.folder}", soft_wrap=True
    )
    for name, counts in done.parts.items() if "" not in done.parts else ():
        screen.print(f"  {name}: {counts.crops:,} crops", soft_wrap=True)
    if done.no_numbers:
        screen.print(f"{done.no_numbers:,} values were NaN or infinite; they are null in the export.", soft_wrap=True)
    if done.same_bytes:
        screen.print(
            f"{done.same_bytes:,} photos have the same bytes as a photo in another part, under another id.",
            soft_wrap=True,
        )
    if done.missing:
        left_out = sum(counts.left_out for counts in done.parts.values())
        screen.print(
            f"{len(done.missing):,} photos could not be had; their {left_out:,} crops are left out. export.json names them:",
            soft_wrap=True,
        )
        for (_, image_id, _), why in list(done.missing.items())[:_SHOWN]:
            screen.print(f"  {image_id}: {why}", soft_wrap=True)
    if not done.crops:
        screen.print("No written crop matches the condition; the export is empty.", soft_wrap=True)

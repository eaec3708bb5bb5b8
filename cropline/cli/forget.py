"""cropline forget: what was made of some photos goes, and never comes back."""

from __future__ import annotations

from datetime import UTC, datetime

import typer
from rich.console import Console

from cropline import storage
from cropline.erasure import Erased, Selection, foresee, forget, teller
from cropline.settings import load_settings
from cropline.state import State


def asked_selection(images: list[str] | None, stores: list[str] | None, before: str | None) -> Selection:
    """The options as one selection; a mistake becomes a usage error that names the option."""
    if sum(map(bool, (images, stores, before))) != 1:
        raise typer.BadParameter("give exactly one of --image, --store and --before")
    if any(not name for name in (*(images or ()), *(stores or ()))):
        raise typer.BadParameter("an id is empty")
    return Selection(tuple(images or ()), tuple(stores or ()), _moment(before) if before else None)


def run_forget(selection: Selection, *, dry_run: bool) -> None:
    """Forget, or say what would be forgotten."""
    settings = load_settings()
    spec, source = settings.storage.spec, settings.api.source
    if not dry_run:
        storage.check_writable(spec)
    with State.open(settings.state) as state:
        if dry_run:
            erased = foresee(spec, state, source, selection)
        else:
            erased = forget(spec, state, source, selection, teller(settings, state))
    console = Console()
    for line in _lines(erased, dry_run=dry_run, receipt=spec.uri(erased.receipt) if erased.receipt else None):
        console.print(line, highlight=False, soft_wrap=True)


def _lines(erased: Erased, *, dry_run: bool, receipt: str | None) -> list[str]:
    what = f"{erased.objects:,} objects and {erased.rows:,} catalogue rows of {erased.images:,} photos"
    if dry_run:
        lines = [f"{what} would go. Nothing was done."]
        return [*lines, *([f"{erased.in_work:,} of the photos are in work now."] if erased.in_work else [])]
    if receipt is not None:
        return [f"{what} are gone, and these photos will not be cropped again.", f"receipt: {receipt}"]
    return [
        f"{what} are gone. {erased.in_work:,} more photos are in work: what comes of them is removed when their batch ends.",
        "The receipt is written then: by the next poll, by maintain, or by the same command again.",
    ]


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("not a moment in ISO 8601, such as 2026-11-22", param_hint="--before") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

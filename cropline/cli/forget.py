"""``cropline forget``: erase everything made from some photos, for good."""

from __future__ import annotations

import typer
from pydantic import ValidationError

from cropline.config.settings import load_settings
from cropline.core import store_probe
from cropline.core.screen import Screen
from cropline.erasure.erase import estimate, forget
from cropline.erasure.events import event_emitter
from cropline.erasure.report import erasure_lines
from cropline.erasure.selection import Selection
from cropline.pipeline.run import open_state

_OPTIONS = {"images": "--image", "stores": "--store", "before": "--before"}


def asked_selection(images: list[str] | None, stores: list[str] | None, before: str | None) -> Selection:
    """Return the options as one selection. Raises BadParameter, which names the wrong option."""
    try:
        return Selection.model_validate({"images": images or (), "stores": stores or (), "before": before})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise typer.BadParameter("give exactly one of --image, --store and --before") from None
        raise typer.BadParameter(
            first["msg"].removeprefix("Value error, "), param_hint=_OPTIONS[str(first["loc"][0])]
        ) from None


def run_forget(selection: Selection, *, dry_run: bool, source: str | None = None) -> None:
    """Erase the photos, or print what would be erased."""
    settings = load_settings(source)
    spec, source = settings.storage.spec, settings.api.source
    if not dry_run:
        store_probe.require(spec)
    with open_state(settings) as state:
        if dry_run:
            result = estimate(spec, state, source, selection)
        else:
            result = forget(spec, state, source, selection, event_emitter(settings, state))
    receipt = [f"receipt: {spec.uri(result.receipt)}"] if result.receipt else []
    screen = Screen()
    for line in [*erasure_lines(result, dry_run=dry_run), *receipt]:
        screen.print(line, soft_wrap=True)

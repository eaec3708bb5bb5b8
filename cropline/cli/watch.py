"""cropline watch: the flow of the same name in this process, with a line that moves."""

from __future__ import annotations

from rich.console import Console

from cropline.cli.runs import check_settings
from cropline.run import watch as on_screen


def run_watch(every_s: float, minutes: float) -> None:
    """Watch until the time is over or Ctrl-C, and say what came of it."""
    console = Console()
    check_settings(needs_api=True)
    from flows.watch import watch

    crops = 0
    with console.status("watching") as line:

        def on_progress(stage: str, more: int, total: int) -> None:  # noqa: ARG001
            nonlocal crops
            if stage == "crops":
                crops += more
                line.update(f"watching: {crops:,} boxes so far")

        try:
            with on_screen(on_progress):
                watched = watch(every_s=every_s, minutes=minutes)
        except KeyboardInterrupt:
            console.print(f"ended after {crops:,} boxes", highlight=False)
            return
    console.print(
        f"{watched.written:,} crops from {watched.images:,} images in {watched.polls:,} polls; "
        f"{watched.idle:,} looks found nothing new, {watched.failed:,} failed",
        highlight=False,
    )

"""cropline watch: the flow of the same name in this process, with a line that moves."""

from __future__ import annotations

from cropline.cli.runs import check_settings, show_problems
from cropline.core.screen import Screen
from cropline.pipeline.run import report_progress_to as on_screen


def run_watch(every_s: float, minutes: float) -> None:
    """Watch until the time is over or Ctrl-C, and say what came of it."""
    screen = Screen()
    check_settings(needs_api=True)
    from flows.watch import watch

    boxes = 0
    with screen.status("watching; Ctrl-C ends it") as line:

        def on_progress(stage: str, more: int, total: int) -> None:  # noqa: ARG001
            nonlocal boxes
            if stage == "crops":
                boxes += more
                line.update(f"watching: {boxes:,} boxes so far; Ctrl-C ends it")

        with on_screen(on_progress):
            watched = watch(every_s=every_s, minutes=minutes)
    screen.print(
        f"{watched.funnel.written:,} crops from {watched.funnel.images:,} images, {watched.funnel.failed:,} failed; "
        f"of the looks {watched.found:,} found something, {watched.idle:,} nothing new, {watched.failed:,} failed",
        soft_wrap=True,
    )
    show_problems(screen, watched.funnel)

"""``cropline watch``: run the watch flow with a status line."""

from __future__ import annotations

from cropline.cli.runs import check_settings, show_problems
from cropline.core.screen import Screen
from cropline.pipeline.run import report_progress_to


def run_watch(every_s: float, minutes: float, source: str | None) -> None:
    """Watch until the time is over or Ctrl-C, and print the result."""
    screen = Screen()
    check_settings(source, needs_api=True)
    from flows.watch import watch

    boxes = 0
    with screen.status("watching; press Ctrl-C to end") as line:

        def on_progress(stage: str, more: int, total: int) -> None:  # noqa: ARG001
            nonlocal boxes
            if stage == "crops":
                boxes += more
                line.update(f"watching: {boxes:,} boxes so far; press Ctrl-C to end")

        with report_progress_to(on_progress):
            watched = watch(every_s=every_s, minutes=minutes, source=source)
    screen.print(
        f"{watched.funnel.written:,} crops from {watched.funnel.images:,} images, {watched.funnel.failed:,} failed; "
        f"polls: {watched.found:,} with news, {watched.idle:,} without, {watched.failed:,} failed",
        soft_wrap=True,
    )
    show_problems(screen, watched.funnel)

"""Plans and progress of backfills and replays, as Markdown for the Prefect UI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cropline.backfill.cost import Cost
from cropline.backfill.estimate import Estimate
from cropline.backfill.progress import Progress
from cropline.reports.summary import plain

_DAYS_SHOWN = 400


def plan_markdown(title: str, estimated: Estimate) -> str:
    """Return what would be done and why, by day, with its cost."""
    parts = [f"## {plain(title)}", "", f"**{plain(estimated.verdict)}**", ""]
    parts += _grid(["estimate", ""], cost_rows(estimated.cost), numbers=False)
    if estimated.days:
        head, rows = day_rows(estimated)
        parts += ["", *_grid(head, rows[:_DAYS_SHOWN])]
        if len(rows) > _DAYS_SHOWN:
            parts += ["", f"and {len(rows) - _DAYS_SHOWN:,} days more"]
    if estimated.left:
        rows = [[why, what, f"{count:,}"] for why, what, count in estimated.left]
        parts += ["", *_grid(["reason left out", "counted in", "how many"], rows)]
    if estimated.note:
        parts += ["", plain(estimated.note)]
    return "\n".join(parts) + "\n"


def cost_rows(cost: Cost) -> list[list[str]]:
    """Return the estimate as rows of (name, value)."""
    return [
        ["time", f"about {span(cost.seconds)} ({cost.basis})"],
        ["API calls", f"{cost.calls:,} for the listing, {cost.downloads:,} for photos"],
        ["download", f"{_megabytes(cost.bytes)} MB"],
        ["PUTs", f"{cost.puts:,}"],
    ]


def day_rows(estimated: Estimate) -> tuple[list[str], list[list[str]]]:
    """Return (head, rows): one row per day, newest first, and one column per reason."""
    reasons = sorted({why for day in estimated.days for why in day.why})
    rows = [
        [day.day, f"{day.images:,}", f"{day.boxes:,}", _megabytes(day.bytes)]
        + [f"{day.why[why]:,}" if day.why[why] else "" for why in reasons]
        for day in estimated.days
    ]
    return ["captured on", "photos", "crops", "MB", *reasons], rows


def progress_markdown(title: str, progress: Progress, ended: str | None) -> str:
    """Return the progress of a run, by day."""
    days = progress.days
    done, failed = sum(day.done for day in days), sum(day.failed for day in days)
    over = sum(day.left == 0 for day in days)
    verdict = (
        f"{done:,} of {progress.planned:,} done, {failed:,} failed, {progress.left:,} left; "
        f"{over} of {len(days)} {'day' if len(days) == 1 else 'days'} complete"
        if days
        else "nothing to do"
    )
    rows = [
        [day.day, f"{day.planned:,}", f"{day.done:,}", f"{day.failed:,}", f"{day.elsewhere:,}", f"{day.left:,}"]
        for day in days[:_DAYS_SHOWN]
    ]
    head = ["captured on", "planned", "done", "failed", "with other runs", "left"]
    end = ["", plain(ended)] if ended else []
    # Prefect's page shows nothing when a table has no rows.
    table = ["", *_grid(head, rows)] if rows else []
    return "\n".join([f"## {plain(title)}", "", f"**{verdict}**", *end, *table]) + "\n"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f}" if count >= 10_000_000 else f"{count / 1e6:.1f}"


def span(seconds: float) -> str:
    """Return a duration as readable text."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5_400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:,.1f} h"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> list[str]:
    rule = ["---", *(["---:" if numbers else "---"] * (len(head) - 1))]
    lines = [[plain(cell) for cell in line] for line in (head, *rows)]
    return ["| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:])]

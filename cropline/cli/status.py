"""``cropline status``: the state table on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich.table import Table

from cropline.config.settings import load_installation
from cropline.core.screen import Screen
from cropline.state import BatchState, State, StateReport

_NUMBERS = {"work items", "try", "images", "written", "failed", "skipped"}
_COLOURS = {
    "done": "green",
    "pending": "cyan",
    "claimed": "cyan",
    "failed": "yellow",
    "dead": "red",
    "quarantined": "yellow",
    "ended with failures": "red",
}
_UNKNOWN_COMMITS = "holds batches that this state database does not know: it was lost or restored, or another installation writes there"


def show_status() -> None:
    """Print images by state, the backlog, cursors, reasons and the last batches."""
    with State.open(load_installation().state) as state:
        report = state.report()
    screen = Screen()
    _images(screen, report)
    _sources(screen, report)
    if report.reasons:
        screen.print(
            _table(
                ("state", "reason", "work items"), [(_why(r.state), r.reason, f"{r.works:,}") for r in report.reasons]
            ),
            "",
        )
    if report.batches:
        head = ("last batches", "state", "try", "images", "written", "failed", "skipped")
        screen.print(_table(head, [_batch(batch) for batch in report.batches]))


def _images(screen: Screen, report: StateReport) -> None:
    counts: dict[str, int] = {}
    for state, works in report.images.items():
        counts[state] = works
        if state == "done":
            counts |= {"done": works - report.done_with_failures, "ended with failures": report.done_with_failures}
    states = "  ".join(f"[{_COLOURS[name]}]{count:,} {name}[/]" for name, count in counts.items() if count)
    age = f", the oldest has waited for {_span(report.oldest_pending_age)}" if report.oldest_pending_age else ""
    stale = f", of them stale: {report.stale_batches} (the next run resumes them)" if report.stale_batches else ""
    for name, text in (
        ("images", states or ("none in the state table" if report.moved_out else "none yet")),
        *([("moved out", _moved_out(report))] if report.moved_out else []),
        ("backlog", f"{report.backlog:,}{age}"),
        ("open batches", f"{report.open_batches}{stale}"),
        ("lineage", f"{report.outbox:,} events to publish"),
        *([("catalogue", _UNKNOWN_COMMITS)] if report.unknown_batches else []),
    ):
        screen.print(f"[bold]{name:<13}[/bold] {text}", markup=True)
    screen.print()


def _moved_out(report: StateReport) -> str:
    before = f" before {report.moved_before + timedelta(days=1):%Y-%m-%d}" if report.moved_before else ""
    return f"{report.moved_out:,} photos that ended{before}; the catalogue knows them"


def _why(state: str) -> str:
    """Return the state to show: a work item that is done but has a reason failed for some or all boxes."""
    return "ended with failures" if state == "done" else state


def _sources(screen: Screen, report: StateReport) -> None:
    rows = [(s.source, s.cursor or "never polled", _span(s.lag) if s.lag else "-") for s in report.sources]
    if rows:
        screen.print(_table(("source", "cursor", "lag"), rows), "")


def _batch(batch: BatchState) -> tuple[str, ...]:
    counts = batch.counts
    numbers = (f"{counts.written:,}", f"{counts.failed:,}", f"{counts.skipped:,}") if counts else ("-", "-", "-")
    return batch.batch_id, batch.state, str(batch.attempt), f"{batch.images:,}", *numbers


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(
            name, justify="right" if name in _NUMBERS else "left", no_wrap=name not in ("reason", "cursor")
        )
    for row in rows:
        table.add_row(*row)
    return table


def _span(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h" if seconds < 172_800 else f"{seconds // 86_400} days"

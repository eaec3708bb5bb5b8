"""The backlog over the last day, as a picture and a few lines for the Prefect UI."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cropline.core.svg import data_uri
from cropline.reports.chart import Panel, Series, svg
from cropline.reports.summary import plain
from cropline.state import BacklogSample, StateReport

LOOK_BACK = timedelta(days=1)
_SHORTEST = timedelta(hours=1)


def backlog_markdown(report: StateReport, samples: Sequence[BacklogSample]) -> str:
    """The backlog now, the last day as a picture, the cursors, and why work items are not done."""
    parts = ["## backlog", "", f"**{backlog_verdict(report)}**", ""]
    if samples:
        parts += [f"![backlog and age over the last day]({data_uri(backlog_svg(samples, report.at))})", ""]
    parts += ["| work items | count |", "|---|---:|"]
    parts += [f"| {state} | {count:,} |" for state, count in report.images.items()]
    if report.sources:
        parts += ["", "| source | cursor | lag |", "|---|---|---|"]
        parts += [f"| {plain(s.source)} | {s.cursor or 'never polled'} | {_span(s.lag)} |" for s in report.sources]
    if report.reasons:
        parts += ["", "| state | reason | work items |", "|---|---|---:|"]
        parts += [f"| {r.state} | {plain(r.reason)} | {r.works:,} |" for r in report.reasons[:20]]
    return "\n".join(parts) + "\n"


def backlog_verdict(report: StateReport) -> str:
    """The backlog in one sentence."""
    if not report.backlog:
        return "The backlog is empty."
    age = f", the oldest for {_span(report.oldest_pending_age)}" if report.oldest_pending_age else ""
    batches = "1 stale batch" if report.stale_batches == 1 else f"{report.stale_batches:,} stale batches"
    stale = f"; the next run resumes {batches}" if report.stale_batches else ""
    return f"{report.backlog:,} waiting{age}{stale}."


def backlog_svg(samples: Sequence[BacklogSample], now: datetime) -> str:
    """How many work items wait, and for how long, over the last day."""
    moments = [sample.at.timestamp() for sample in samples]

    def series(name: str, colour: str, values: Sequence[float]) -> Series:
        return Series(name, colour, list(zip(moments, values, strict=True)))

    waiting = Panel(
        "waiting work items",
        [
            series("pending", "#4c6ef5", [sample.pending for sample in samples]),
            series("in progress", "#12b886", [sample.claimed for sample in samples]),
            series("will be retried", "#f59f00", [sample.failed for sample in samples]),
        ],
    )
    age = Panel(
        "age of the oldest pending work item, minutes", [series("age", "#7048e8", [_minutes(s) for s in samples])]
    )
    return svg([waiting, age], _from(samples, now).timestamp(), now.timestamp())


def _from(samples: Sequence[BacklogSample], now: datetime) -> datetime:
    """A day ago, or the first sample when it is younger: else the chart would be a line at the right edge."""
    return max(now - LOOK_BACK, min(samples[0].at, now - _SHORTEST))


def _minutes(sample: BacklogSample) -> float:
    since = sample.oldest_pending_since
    return max(0.0, (sample.at - since).total_seconds() / 60) if since else 0.0


def _span(span: timedelta | None) -> str:
    if span is None:
        return "-"
    minutes = span.total_seconds() / 60
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"{minutes:,.0f} min"
    return f"{minutes / 60:,.0f} h" if minutes < 2_880 else f"{minutes / 1_440:,.0f} days"

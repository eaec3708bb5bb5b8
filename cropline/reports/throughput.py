"""The speed of a run and its engines: a chart over time, and one line per engine."""

from __future__ import annotations

import math
from collections import Counter

from cropline.pipeline.funnel import Funnel
from cropline.reports.chart import Panel, Series, svg

_BARS = 120
_SHORTEST_S = 10  # else a run of one second would be one bar as wide as the page


def throughput_svg(funnel: Funnel) -> str | None:
    """Return a chart of boxes per second and, on a cluster, of executors; None when nothing was cropped."""
    done = {second: boxes for second, boxes in funnel.throughput.items() if boxes}
    if not done:
        return None
    start = min(done)
    end = max(max(done) + 1, start + _SHORTEST_S)
    bar = max(1, math.ceil((end - start) / _BARS))
    bars: Counter[int] = Counter()
    for second, boxes in done.items():
        bars[start + (second - start) // bar * bar] += boxes
    points = [(float(moment), boxes / bar) for moment, boxes in sorted(bars.items())]
    panels = [Panel("boxes per second", [Series("boxes/s", "#12b886", points)], "bars", bar)]
    executors = _executors(funnel)
    if executors:
        start, end = int(min(start, executors[0][0])), math.ceil(max(end, executors[-1][0]))
        panels.append(Panel("executors", [Series("executors", "#4c6ef5", executors)]))
    return svg(panels, start, end)


def _executors(funnel: Funnel) -> list[tuple[float, float]]:
    """Return (time, number of executors from then on)."""
    spans = {span for use in funnel.engines for span in use.executors}
    changes = sorted([(came, 1) for came, _ in spans] + [(went, -1) for _, went in spans])
    count, steps = 0, []
    for moment, change in changes:
        count += change
        steps.append((moment, float(count)))
    return steps


def engine_rows(funnel: Funnel) -> list[tuple[str, str]]:
    """Return (engine and why it was chosen, batches and time) for each engine."""
    found: dict[tuple[str, str], list[float]] = {}
    for use in funnel.engines:
        held = found.setdefault((use.kind, use.reason), [0, 0.0, 0.0])
        held[0] += 1
        held[1] += use.seconds
        held[2] += use.executor_seconds
    return [
        (
            kind if reason == "set" else f"{kind}: {reason}",
            f"{batches:,.0f} {'batch' if batches == 1 else 'batches'}, {seconds:,.0f} s"
            + (f", {cost:,.0f} executor seconds" if cost else ""),
        )
        for (kind, reason), (batches, seconds, cost) in found.items()
    ]

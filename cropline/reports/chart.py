"""Draws small charts over time as SVG: areas and bars on a background, so that they read on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from cropline.core.svg import document, element, text

WIDTH = 960
_PANEL, _LEFT, _RIGHT, _TOP, _BOTTOM = 190, 64, 20, 40, 30
_TICKS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400)
_PAPER, _INK, _QUIET, _LINE = "#f4f2ee", "#23262b", "#7b7f86", "#d8d4cc"


@dataclass(frozen=True)
class Series:
    """Values over time: (Unix seconds, value), in the order of time."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One chart. ``area``: stacked series, each value holds until the next point. ``bars``: one series."""

    title: str
    series: Sequence[Series]
    kind: Literal["area", "bars"] = "area"
    bar_s: float = 1.0  # seconds that a bar covers


def svg(panels: Sequence[Panel], start: float, end: float) -> str:
    """The panels below each other, over one time span."""
    end = max(end, start + 1)
    height = _PANEL * len(panels)
    drawn = [_panel(panel, number * _PANEL, start, end) for number, panel in enumerate(panels)]
    paper = element("rect", width=WIDTH, height=height, rx=8, fill=_PAPER)
    font = {"font_family": "system-ui,sans-serif", "font_size": "12"}
    return document((0, 0, WIDTH, height), paper, *drawn, width=WIDTH, height=height, **font)


def _panel(panel: Panel, top: float, start: float, end: float) -> str:
    peak = _nice(max(_peaks(panel), default=0), least=1 if panel.kind == "bars" else 2)
    floor, roof = top + _PANEL - _BOTTOM, top + _TOP
    shapes = (
        _bars(panel, start, end, floor, roof, peak)
        if panel.kind == "bars"
        else _areas(panel, start, end, floor, roof, peak)
    )
    grid = [
        element("path", d=f"M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}", stroke=_LINE)
        + element("text", _number(value), x=_LEFT - 8, y=y + 4, text_anchor="end", fill=_QUIET)
        for value, y in ((0, floor), (peak / 2, (floor + roof) / 2), (peak, roof))
    ]
    times = [
        element(
            "text",
            _clock(moment, end - start),
            x=_x(moment, start, end),
            y=floor + 18,
            text_anchor=_anchor(moment, start, end),
            fill=_QUIET,
        )
        for moment in _ticks(start, end)
        if _x(moment, start, end) < WIDTH - _RIGHT - 10  # a label there would be cut off
    ]
    title = element("text", text(panel.title), x=_LEFT, y=top + 22, fill=_INK, font_weight="600")
    return "".join([title, _legend(panel, top + 22), *grid, shapes, *times])


def _peaks(panel: Panel) -> list[float]:
    if panel.kind == "bars":
        return [value for one in panel.series for _, value in one.points]
    return [sum(values) for values in zip(*([value for _, value in one.points] for one in panel.series), strict=True)]


def _areas(panel: Panel, start: float, end: float, floor: float, roof: float, peak: float) -> str:
    """Stacked steps. The last series is at the top, so it is drawn first."""
    if not panel.series or not panel.series[0].points:
        return ""
    moments = [moment for moment, _ in panel.series[0].points]
    below = [0.0] * len(moments)
    shapes = []
    for one in panel.series:
        below = [held + value for held, (_, value) in zip(below, one.points, strict=True)]
        shapes.append(_steps(moments, below, one.colour, (start, end), (floor, roof, peak)))
    return "".join(reversed(shapes))


def _steps(
    moments: Sequence[float],
    values: Sequence[float],
    colour: str,
    span: tuple[float, float],
    scale: tuple[float, float, float],
) -> str:
    floor, roof, peak = scale
    path = f"M{_x(moments[0], *span):.1f} {floor:.1f}"
    for moment, value in zip(moments, values, strict=True):
        path += f"H{_x(moment, *span):.1f}V{floor - (floor - roof) * value / peak:.1f}"
    path += f"H{_x(span[1], *span):.1f}V{floor:.1f}Z"
    return element("path", d=path, fill=colour)


def _bars(panel: Panel, start: float, end: float, floor: float, roof: float, peak: float) -> str:
    one = panel.series[0]
    width = max(1.0, _x(start + panel.bar_s, start, end) - _x(start, start, end) - 1)
    return "".join(
        element(
            "rect",
            x=_x(moment, start, end),
            y=floor - (floor - roof) * value / peak,
            width=width,
            height=(floor - roof) * value / peak,
            fill=one.colour,
        )
        for moment, value in one.points
        if value > 0
    )


def _legend(panel: Panel, y: float) -> str:
    if len(panel.series) < 2:
        return ""
    x = WIDTH - _RIGHT
    shown = []
    for one in reversed(panel.series):
        x -= 8 * len(one.name) + 26
        shown.append(element("rect", x=x, y=y - 10, width=11, height=11, rx=2, fill=one.colour))
        shown.append(element("text", text(one.name), x=x + 16, y=y, fill=_INK))
    return "".join(shown)


def _x(moment: float, start: float, end: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * (min(max(moment, start), end) - start) / (end - start)


def _nice(peak: float, least: float) -> float:
    """The next 1, 2 or 5 times a power of ten, at least ``least``, so that no mark is half a photo."""
    if peak <= 0 or (least > 1 and peak < least):
        return least
    power = 10.0 ** math.floor(math.log10(peak))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= peak - 1e-9)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _ticks(start: float, end: float) -> list[float]:
    """Round times, at most eight."""
    step = next((step for step in _TICKS if (end - start) / step <= 8), (end - start) / 8)
    first = math.ceil(start / step) * step
    return [first + step * number for number in range(int((end - first) // step) + 1)]


def _anchor(moment: float, start: float, end: float) -> str:
    """The anchor of a label: one at the right edge ends there, so that it is not cut off."""
    return "end" if (end - moment) < (end - start) / 30 else "middle"


def _clock(moment: float, span: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):{'%H:%M:%S' if span < 1_800 else '%H:%M'}}"

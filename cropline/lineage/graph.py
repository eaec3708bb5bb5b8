"""Draws a run's path through the datasets as SVG: from the API to crops and catalogue, with counts on the edges.

The picture works by itself (in an <img>, a page, a Markdown artifact). It needs no network and no script, and
follows the reader's light or dark scheme.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from cropline.core.scrub import visible
from cropline.core.svg import document, element, text

_WIDTH, _HEIGHT, _TITLE = 1180, 236, 34
_TOP, _BOTTOM = 56, 172  # y of the middle of each row
_BOX_W, _BOX_H = 112, 52
_SUB, _HEADING = 15, 110  # characters that fit into a box, and into the heading
_EXACT_BELOW = 10_000_000  # a longer number does not fit; the tooltip has it

_STYLE = """
.card{fill:#ffffff;stroke:#d9dee5}.title{fill:#1f2933;font-weight:600;font-size:15px}
.data{fill:#eef3fb;stroke:#5b7fb9}.job{fill:#1f7a6d;stroke:#1f7a6d}.bad{fill:#fdf0e3;stroke:#c77d2b}
.name{fill:#1f2933;font-size:14px;font-weight:600}.job-name{fill:#ffffff;font-size:14px;font-weight:600}
.sub{fill:#5b6673;font-size:11px}.edge{fill:none;stroke:#8896a5;stroke-width:1.6}.tip{fill:#8896a5}
.count{fill:#1f2933;font-size:15px;font-weight:700}.warn{fill:#a85c0e}
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;text-anchor:middle}
@media (prefers-color-scheme:dark){
.card{fill:#171c22;stroke:#313a45}.title,.name,.count{fill:#e6ebf1}.data{fill:#1d2a3d;stroke:#6f97d6}
.bad{fill:#38291a;stroke:#d6954a}.sub{fill:#9aa7b5}.edge{stroke:#77879a}.tip{fill:#77879a}.warn{fill:#f0b36b}}
"""


@dataclass(frozen=True)
class _Node:
    x: int
    y: int
    kind: str  # data | job | bad
    name: str
    sub: str
    caption: str = ""  # the full text, when the drawn one is shortened


_NODES = {
    "api": _Node(80, _TOP, "data", "camera API", "pages"),
    "manifest": _Node(284, _TOP, "data", "manifest", "Parquet"),
    "validate": _Node(488, _TOP, "job", "validate", ""),
    "state": _Node(692, _TOP, "data", "state", "work queue"),
    "crop": _Node(896, _TOP, "job", "crop", ""),
    "crops": _Node(1100, _TOP, "data", "crops", "pictures"),
    "quarantine": _Node(692, _BOTTOM, "bad", "quarantine", "with reasons"),
    "catalogue": _Node(1100, _BOTTOM, "data", "catalogue", "Delta table"),
}

COUNTS = ("polled", "landed", "valid", "quarantined", "images", "written", "failed", "skipped")


def lineage_svg(counts: Mapping[str, int | None], *, title: str = "", names: Mapping[str, str] | None = None) -> str:
    """The graph of one run, or of one crop, as a standalone SVG document.

    ``counts``: by the names in COUNTS; a missing one is drawn as a dash. The catalogue's edge counts rows:
    written + failed + skipped. ``names``: node -> name of a manifest or batch, drawn below the node's kind.
    """
    top = -_TITLE if title else 0
    heading = _heading(visible(title)) if title else ""
    quiet = not counts.get("quarantined")
    card = element("rect", class_="card", x=0.5, y=top + 0.5, width=_WIDTH - 1, height=_HEIGHT - top - 1, rx=12)
    return document(
        (0, top, _WIDTH, _HEIGHT - top),
        element("title", text(_summary(counts))),
        element("style", _STYLE),
        card,
        heading,
        _edges(),
        *(_node(_named(key, names or {}), quiet) for key in _NODES),
        *_labels(counts),
        role="img",
    )


def _heading(title: str) -> str:
    tip = element("title", text(title))
    return element("text", text(_shortened(title, _HEADING)), tip, class_="title", x=24, y=2, style="text-anchor:start")


def _named(key: str, names: Mapping[str, str]) -> _Node:
    node = _NODES[key]
    caption = visible(names.get(key, ""))
    return replace(node, sub=caption, caption=caption) if caption else node


def _edges() -> str:
    way = ["api", "manifest", "validate", "state", "crop", "crops"]
    straight = [_edge(start, end) for start, end in pairwise(way)]
    return "".join([*straight, _bend("validate", "quarantine"), _bend("crop", "catalogue")])


def _labels(counts: Mapping[str, int | None]) -> list[str]:
    known = [value for name in ("written", "failed", "skipped") if (value := counts.get(name)) is not None]
    lost = ", ".join(f"{_short(counts.get(name))} {name}" for name in ("failed", "skipped") if counts.get(name))
    quarantined = counts.get("quarantined")
    return [
        _count(178, _TOP, counts.get("polled"), "items polled"),
        _count(382, _TOP, counts.get("landed"), "rows"),
        _count(586, _TOP, counts.get("valid"), "valid"),
        _count(790, _TOP, counts.get("images"), "images"),
        _count(994, _TOP, counts.get("written"), "written"),
        _count(566, _BOTTOM, quarantined, "quarantined", "warn" if quarantined else ""),
        _count(974, _BOTTOM, sum(known) if known else None, "rows"),
        element("text", text(lost), class_="sub warn", x=1156, y=_BOTTOM + 45, style="text-anchor:end") if lost else "",
    ]


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _short(value: int | None) -> str:
    return _number(value) if value is None or value < _EXACT_BELOW else f"{value / 1e6:,.1f} M"


def _count(x: int, y: int, value: int | None, what: str, kind: str = "") -> str:
    """A number above its edge, and what it counts below."""
    tip = element("title", text(f"{_number(value)} {what}"))
    return element("text", _short(value), tip, class_=f"count {kind}".strip(), x=x, y=y - 8) + element(
        "text", what, class_="sub", x=x, y=y + 17
    )


def _node(node: _Node, quiet: bool) -> str:
    """Data as a box, a job as a pill. ``quiet``: an empty place for bad rows looks like any other."""
    kind = "data" if node.kind == "bad" and quiet else node.kind
    radius = _BOX_H // 2 if node.kind == "job" else 8
    left, top = node.x - _BOX_W // 2, node.y - _BOX_H // 2
    box = element("rect", class_=kind, x=left, y=top, width=_BOX_W, height=_BOX_H, rx=radius)
    tip = [element("title", text(node.caption))] if node.caption else []
    sub = text(_shortened(node.sub, _SUB))
    if node.kind == "job":
        named = element("text", sub, *tip, class_="sub", x=node.x, y=top - 8) if sub else ""
        return box + element("text", node.name, class_="job-name", x=node.x, y=node.y + 5) + named
    return (
        box
        + element("text", node.name, class_="name", x=node.x, y=node.y - 1)
        + element("text", sub, *tip, class_="sub", x=node.x, y=node.y + 15)
    )


def _shortened(text: str, to: int) -> str:
    """The text cut to a length. The end is kept, because names differ there."""
    return text if len(text) <= to else f"…{text[1 - to :]}"


def _edge(start: str, end: str) -> str:
    """A straight arrow from the right of one node to the left of the next, in one row."""
    a, b = _NODES[start], _NODES[end]
    return _arrow(f"M{a.x + _BOX_W // 2} {a.y}H{b.x - _BOX_W // 2 - 7}", b)


def _bend(start: str, end: str) -> str:
    """An arrow from the bottom of one node to the left of a node in the lower row."""
    a, b = _NODES[start], _NODES[end]
    return _arrow(f"M{a.x} {a.y + _BOX_H // 2}V{b.y - 12}Q{a.x} {b.y} {a.x + 12} {b.y}H{b.x - _BOX_W // 2 - 7}", b)


def _arrow(path: str, end: _Node) -> str:
    x, y = end.x - _BOX_W // 2 - 1, end.y
    return element("path", class_="edge", d=path) + element("path", class_="tip", d=f"M{x} {y}l-9 -5v10z")


def _summary(counts: Mapping[str, int | None]) -> str:
    """The same counts as text, for screen readers."""
    return "From camera API to crops: " + ", ".join(f"{_number(counts.get(name))} {name}" for name in COUNTS)

"""The summary of a run, as Markdown for the Prefect UI and as one HTML file. Both show the same rows."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cropline.core.errors import StorageError
from cropline.core.store_spec import StoreSpec
from cropline.core.svg import data_uri
from cropline.lineage.graph import lineage_svg
from cropline.pipeline.funnel import Funnel
from cropline.reports.contact_sheet import Tile, contact_sheet
from cropline.reports.failures import failure_rows
from cropline.reports.links import key_of, relative_links, web_links
from cropline.reports.run_record import counts_of
from cropline.reports.throughput import engine_rows

SAMPLE = 24
# Reasons of fugue_jobs/imaging/regions.py and of the decoder behind it.
WHY_PILLOW = {
    "not_installed": "cropline-regions is not installed",
    "not_usable": "cropline-regions does not fit this Pillow",
    "no_boxes": "no boxes",
    "progressive": "progressive",
    "arithmetic": "arithmetic coding",
    "precision": "not 8 bits",
    "lossless": "lossless",
    "several_scans": "several scans",
    "components": "not RGB or grey",
    "colour_space": "not RGB or grey",
    "tables": "no Huffman tables",
    "corrupt": "damaged",
    "failed": "damaged",
}
_COLUMNS = 6  # more would be unreadable in the UI


@dataclass(frozen=True)
class Summary:
    """Everything that both formats show."""

    title: str
    verdict: str
    steps: list[tuple[str, str, str]]  # step, count, remark
    reasons: list[tuple[str, int]]
    warnings: list[tuple[str, str]]
    places: list[tuple[str, str]]
    brief: list[tuple[str, str]]  # the places by their storage keys
    links: dict[str, str]  # place -> address for the browser that shows the Markdown
    near: dict[str, str]  # place -> address relative to the HTML file
    engines: list[tuple[str, str]]
    failures: list[dict[str, str]]  # see failure_rows
    lineage: str | None  # SVG
    throughput: str | None  # SVG
    sheet: bytes | None  # JPEG


def summarise(
    title: str,
    funnel: Funnel,
    places: Sequence[tuple[str, str]],
    spec: StoreSpec,
    browse_url: str = "",
    *,
    sheet: bytes | None = None,
    lineage: str | None = None,
    throughput: str | None = None,
) -> Summary:
    """Gather the facts and the pictures that could be drawn. ``browse_url``: a web address of the storage."""
    reasons = [*funnel.reasons.most_common(), *((f"quarantined: {name}", n) for name, n in funnel.broken.most_common())]
    return Summary(
        title=title,
        verdict=_verdict(funnel),
        steps=_steps(funnel),
        reasons=reasons,
        warnings=funnel.warnings,
        places=list(places),
        brief=[("output", spec.uri("")), *((what, key_of(where, spec) or where) for what, where in places)],
        links=web_links(places, spec, browse_url),
        near=relative_links(places, spec),
        engines=engine_rows(funnel),
        failures=failure_rows(funnel.failures),
        lineage=lineage,
        throughput=throughput,
        sheet=sheet,
    )


def sample_sheet(funnel: Funnel, spec: StoreSpec) -> bytes | None:
    """Return a JPEG of sampled crops, or None when there are none. Raises what Pillow and the storage raise."""
    tiles = list(_tiles(funnel.samples, spec))
    return contact_sheet(tiles, columns=_COLUMNS) if tiles else None


def lineage_picture(funnel: Funnel) -> str:
    """Return the run's lineage graph with counts, as SVG."""
    return lineage_svg(counts_of(funnel), title="From the camera API to crops")


def _verdict(funnel: Funnel) -> str:
    if funnel.nothing_new:
        return "Nothing new."
    rate = f", {funnel.crops_per_s:,.0f} crops/s" if funnel.written else ""
    retry = f" ({funnel.retrying:,} of them will be retried)" if funnel.retrying else ""
    if funnel.stayed:
        retry += f"; {funnel.stayed:,} failed boxes keep their earlier good crop"
    retry += f"; metadata of {funnel.rewritten:,} rows rewritten" if funnel.rewritten else ""
    images = "1 image" if funnel.images == 1 else f"{funnel.images:,} images"
    return f"{funnel.written:,} crops written from {images}, {funnel.failed:,} failed{retry}{rate}."


def _steps(funnel: Funnel) -> list[tuple[str, str, str]]:
    rows = (
        ("polled", funnel.polled, f"{funnel.repeated:,} seen before"),
        ("landed", funnel.landed, funnel.manifest or "no manifest"),
        ("valid", funnel.valid, ""),
        ("superseded", funnel.superseded, "older versions and repeats"),
        ("quarantined", funnel.quarantined, ""),
        ("new", funnel.new, "work items: an image and a profile"),
        ("changed", funnel.changed, "work items with another version, boxes or recipe"),
        ("corrected", funnel.corrected, "work items with other metadata, same crops"),
        ("known", funnel.known, "nothing to do"),
        ("batches", funnel.batches, f"{funnel.resumed:,} resumed" if funnel.resumed else ""),
        ("images cropped", funnel.images, _decoders(funnel)),
        ("boxes in", funnel.boxes, "= written + failed + skipped"),
        ("written", funnel.written, f"{funnel.crop_bytes / 1e6:,.1f} MB"),
        ("failed", funnel.failed, _of_failed(funnel)),
        ("skipped", funnel.skipped, ""),
    )
    rare = (
        ("rewritten", funnel.rewritten, "rows with other metadata; nothing was fetched or cropped"),
        ("deleted", funnel.deleted, "photos that their source deleted"),
        ("URLs refreshed", funnel.refreshed, "fresh URLs from the image API"),
        ("not refreshed", funnel.not_refreshed, "photos with an expired URL and no fresh one"),
    )
    return [(name, f"{count:,}", remark) for name, count, remark in (*rows, *(row for row in rare if row[1]))]


def _of_failed(funnel: Funnel) -> str:
    parts = ((funnel.retrying, "will be retried"), (funnel.stayed, "keep their earlier good crop"))
    return ", ".join(f"{count:,} {what}" for count, what in parts if count)


def _decoders(funnel: Funnel) -> str:
    found: Counter[str] = Counter()
    for name, photos in funnel.decoders.items():
        found[_decoder(name)] += photos
    return ", ".join(f"{photos:,} by {name}" for name, photos in found.most_common())


def _decoder(name: str) -> str:
    """Return the value of the column ``decoder`` as text."""
    decoder, _, reason = name.partition(": ")
    if decoder != "pillow":
        return decoder
    return f"Pillow ({WHY_PILLOW.get(reason, reason.replace('_', ' '))})" if reason else "Pillow"


def _tiles(samples: Sequence[dict[str, Any]], spec: StoreSpec) -> Iterator[Tile]:
    from cropline.catalogue.crop_files import read_crop

    for row in samples[:SAMPLE]:
        try:
            data = read_crop(spec, row)
        except StorageError:
            data = b""  # the tile then says that it cannot be shown; a report never fails a run
        place = " · ".join(str(part) for part in (row["store_name"] or row["store_id"], row["camera_id"]) if part)
        yield Tile(data, row["label"] or row["box_id"] or "", place)


def markdown(summary: Summary) -> str:
    """Return the summary for a Prefect artifact. The UI shows data-URI pictures."""
    parts = [f"## {plain(summary.title)}", "", f"**{plain(summary.verdict)}**", ""]
    if summary.sheet:
        parts += [f"![contact sheet]({_data_uri(summary.sheet)})", ""]
    if summary.throughput:
        parts += [f"![throughput over time]({data_uri(summary.throughput)})", ""]
    if summary.lineage:
        parts += [f"![from the camera API to crops]({data_uri(summary.lineage)})", ""]
    parts += ["| step | count | |", "|---|---:|---|"]
    parts += [f"| {name} | {count} | {plain(remark)} |" for name, count, remark in summary.steps]
    if summary.reasons:
        parts += ["", "| reason | count |", "|---|---:|"]
        parts += [f"| {plain(reason)} | {count:,} |" for reason, count in summary.reasons]
    if summary.warnings:
        parts += ["", "| unusual | |", "|---|---|"]
        parts += [f"| {kind} | {plain(message)} |" for kind, message in summary.warnings]
    if summary.engines:
        parts += ["", "| engine | |", "|---|---|"]
        parts += [f"| {plain(name)} | {plain(what)} |" for name, what in summary.engines]
    parts += ["", "| output | where |", "|---|---|"]
    # Storage keys are short enough; the UI cuts off longer text.
    parts += [f"| {_linked(name, summary.links)} | `{plain(where)}` |" for name, where in summary.brief]
    return "\n".join(parts) + "\n"


def _linked(name: str, links: dict[str, str]) -> str:
    return f"[{plain(name)}]({links[name]})" if name in links else plain(name)


def plain(text: str) -> str:
    """Return text from outside as plain text: no table breaks, no Markdown links, no HTML."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("`", "'").replace("\n", " ").replace("[", "\\[")


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


_STYLE = """
:root{color-scheme:light dark;--ink:#23262b;--quiet:#6b7078;--paper:#f4f2ee;--card:#fff;--line:#e3e0da;--accent:#d9480f}
@media(prefers-color-scheme:dark){:root{--ink:#eceae6;--quiet:#9aa0a8;--paper:#191b1f;--card:#23262b;--line:#363a41}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0;padding:2.5rem 1rem}
main{max-width:1094px;margin:auto}h1{font-size:1.5rem;margin:0}
p.verdict{font-size:1.15rem;margin:.3rem 0 1.5rem}
.cards{display:flex;flex-wrap:wrap;gap:1.25rem;align-items:flex-start;margin-top:1.25rem}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem 1.25rem}
h2{font-size:.8rem;letter-spacing:.06em;text-transform:uppercase;color:var(--quiet);margin:0 0 .5rem}
table{border-collapse:collapse}td{padding:.2rem 1rem .2rem 0;border-top:1px solid var(--line);vertical-align:top}
tr:first-child td{border-top:0}td.n{text-align:right;font-variant-numeric:tabular-nums}
a{color:var(--accent)}td.q{color:var(--quiet);overflow-wrap:anywhere}
img+img{margin-top:1.25rem}
img[src^="data:image/svg"]{width:100%}
img{max-width:100%;border-radius:10px;border:1px solid var(--line);display:block}
"""


def html_page(summary: Summary) -> str:
    """Return one self-contained page: no script, no external address."""
    esc = html.escape
    picture = f'<img alt="contact sheet of sampled crops" src="{_data_uri(summary.sheet)}">' if summary.sheet else ""
    if summary.lineage:
        picture += f'<img alt="from the camera API to crops" src="{data_uri(summary.lineage)}">'
    picture += f'<img alt="throughput over time" src="{data_uri(summary.throughput)}">' if summary.throughput else ""
    steps = _table([f"<td>{esc(n)}</td><td class=n>{c}</td><td class=q>{esc(r)}</td>" for n, c, r in summary.steps])
    reasons = _table([f"<td>{esc(name)}</td><td class=n>{count:,}</td>" for name, count in summary.reasons])
    warnings = _table([f"<td>{esc(kind)}</td><td class=q>{esc(message)}</td>" for kind, message in summary.warnings])
    places = _table([_place(name, where, summary.near) for name, where in summary.places])
    cards = [("counts", steps), ("reasons", reasons if summary.reasons else "<p>none</p>"), ("outputs", places)]
    cards[2:2] = [("unusual", warnings)] if summary.warnings else []
    cards += [("engine", _table([_two(*row) for row in summary.engines]))] if summary.engines else []
    cards += [("failures", _failures(summary.failures))] if summary.failures else []
    body = "".join(f"<section><h2>{name}</h2>{content}</section>" for name, content in cards)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{esc(summary.title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><main><h1>{esc(summary.title)}</h1>'
        f'<p class="verdict">{esc(summary.verdict)}</p>{picture}<div class="cards">{body}</div></main></html>\n'
    )


def _place(name: str, where: str, near: dict[str, str]) -> str:
    to = near.get(name) or (where if where.startswith(("http://", "https://")) else None)
    if to is None:
        return _two(name, where)
    return f'<td><a href="{html.escape(to)}">{html.escape(name)}</a></td><td class=q>{html.escape(where)}</td>'


def _two(name: str, what: str) -> str:
    return f"<td>{html.escape(name)}</td><td class=q>{html.escape(what)}</td>"


def _failures(rows: Sequence[dict[str, str]]) -> str:
    shown = ("image", "boxes", "reason", "what happened", "what to do", "look at it")
    head = "".join(f"<td class=q>{name}</td>" for name in shown)
    return _table([head, *("".join(f"<td>{html.escape(row[name])}</td>" for name in shown) for row in rows)])


def _table(rows: Sequence[str]) -> str:
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"

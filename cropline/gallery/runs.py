"""What the pages of runs and of quarantine show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from cropline.catalogue import Catalogue
from cropline.core.errors import CroplineError
from cropline.intake import quarantine

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec
    from cropline.gallery.queries import Queries
    from cropline.state import State

_BATCHES, _REASONS, _EXAMPLES, _ROWS, _READ = 50, 20, 4, 100, 5_000


def runs_of(state: State, store: StoreSpec, queries: Queries) -> dict[str, Any]:
    """Return the last batches, the reasons with examples, and the sources."""
    report = state.report(last_batches=_BATCHES)
    shown = list(report.reasons)[:_REASONS]
    try:
        examples = queries.examples({each.reason for each in shown if each.reason}, _EXAMPLES)
    except CroplineError:
        examples = {}  # the catalogue has nothing of it yet; the counts are still right
    reasons = [(each, examples.get(each.reason or "", [])) for each in shown]
    return {"report": report, "reasons": reasons, "store": store.url}


def quarantined(store: StoreSpec, state: State) -> list[dict[str, Any]]:
    """Return the newest bad rows of each source, with what they break and the item as it came."""
    found: list[dict[str, Any]] = []
    for source in state.report(last_batches=0).sources:
        entries = list(islice(quarantine.find(store, source.source, quarantine.QuarantineFilter()), _READ))
        found += [
            {
                "source": source.source,
                "row": entry.row,
                "replayed": [mark.at for mark in entry.marks],
                "raw": _pretty(entry.row["raw"]),
            }
            for entry in entries[-_ROWS:]
        ]
    return found[::-1]


@dataclass(frozen=True)
class Version:
    """One version of a photo by one profile. ``until``: "now", or the table version that superseded it."""

    version: str
    profile: str
    committed_at: datetime
    boxes: int
    written: int
    until: str


def versions_of(store: StoreSpec, source: str, image_id: str) -> list[Version]:
    """Return the versions of a photo that the catalogue still holds, newest first."""
    found = []
    for held in Catalogue(store).image_history(source, image_id):
        rows = held.rows.to_pylist()
        until = "now" if held.superseded_in is None else f"superseded in version {held.superseded_in} of the catalogue"
        for profile in sorted({row["profile"] for row in rows}):
            ours = [row for row in rows if row["profile"] == profile]
            written = sum(row["status"] == "written" for row in ours)
            first = ours[0]
            found.append(Version(first["version"], profile, first["committed_at"], len(ours), written, until))
    return found


def _pretty(raw: str | None) -> str:
    try:
        return json.dumps(json.loads(raw or "{}"), indent=1, ensure_ascii=False)[:4_000]
    except ValueError:
        return str(raw)[:4_000]

"""Data Docs: the kept history of validations, with one page per run and an index of the newest.

    index.html                               the newest runs
    history.json                             their records, so that the index is built without reading every run
    runs/2026-11-22/084000Z-name.html|json   one run's page and record

The cost of a run does not grow with the history: it writes its own two files, reads history.json and lists two days.
When concurrent runs overwrite history.json, the next run of these days finds the missing record by that listing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cropline.core import storage
from cropline.core.keys import safe_name
from cropline.core.scrub import one_line
from cropline.core.store_spec import StoreSpec
from expectations.docs_record import Record

if TYPE_CHECKING:
    from expectations.gx import SuiteRun

NEWEST = 500
_MOST_BROKEN = 3


@dataclass(frozen=True)
class DocsSite:
    """The place of the pages: a store and a key prefix, which is empty or ends in a slash."""

    spec: StoreSpec
    prefix: str = ""

    @classmethod
    def at(cls, place: Path | StoreSpec) -> DocsSite:
        """Return the site in a local folder, or below ``docs/`` in a store."""
        if isinstance(place, StoreSpec):
            return cls(place, "docs/")
        return cls(StoreSpec(place.absolute().as_uri()))


def publish(site: DocsSite, runs: Sequence[SuiteRun], *, run_name: str, now: datetime, bad: int, rows: int) -> str:
    """Write this run's page and update the index. Return the page's full URL. Raise StorageError."""
    from expectations.docs_page import index_page, run_page

    record = _record(runs, one_line(run_name, 120), now.astimezone(UTC), bad, rows)
    _write(site, record.page, run_page(record, runs, index="../../index.html"))
    _write(site, _record_key(record.page), json.dumps(asdict(record)))
    history = _merged(site, record, now.astimezone(UTC))
    _write(site, "history.json", json.dumps([asdict(known) for known in history]))
    _write(site, "index.html", index_page(history))
    return site.spec.uri(site.prefix + record.page)


def _record(runs: Sequence[SuiteRun], run_name: str, now: datetime, bad: int, rows: int) -> Record:
    outcomes = [outcome for run in runs for outcome in run.outcomes if not outcome.success]
    warnings = sorted((o for o in outcomes if o.severity == "warning"), key=lambda o: -o.unexpected)
    return Record(
        run_name=run_name,
        at=f"{now:%Y-%m-%d %H:%M:%S} UTC",
        rows=rows,
        bad=bad,
        critical=tuple(outcome.name for outcome in outcomes if outcome.severity == "critical"),
        broken=tuple((outcome.name, outcome.unexpected) for outcome in warnings[:_MOST_BROKEN]),
        page=f"runs/{now:%Y-%m-%d}/{now:%H%M%S}Z-{safe_name(run_name)}.html",
    )


def _merged(site: DocsSite, record: Record, now: datetime) -> list[Record]:
    """Return the newest records, including this one, newest first."""
    known = _read_history(site)
    prefixes = ["runs/"] if known is None else [f"runs/{now - timedelta(days=days):%Y-%m-%d}/" for days in (1, 0)]
    records = {past.page: past for past in known or ()} | {record.page: record}
    # A record older than a full history has left it for good.
    oldest = min(records) if len(records) > NEWEST else ""
    keys = (key for prefix in prefixes for key in _record_keys(site, prefix))
    missed = [key for key in keys if _page_key(key) not in records and _page_key(key) > oldest]
    records |= {past.page: past for past in (_load(site, key) for key in missed[-NEWEST:])}
    return [records[page] for page in sorted(records, reverse=True)[:NEWEST]]


def _read_history(site: DocsSite) -> list[Record] | None:
    """Return the records of history.json. None when it is missing or unreadable: then they are read from the runs."""
    if not storage.exists(site.spec, site.prefix + "history.json"):
        return None
    try:
        return [_from_json(entry) for entry in json.loads(storage.read(site.spec, site.prefix + "history.json"))]
    except (ValueError, TypeError, KeyError):
        return None


def _from_json(entry: dict[str, object]) -> Record:
    broken = entry["broken"]
    critical = entry["critical"]
    if not isinstance(broken, list) or not isinstance(critical, list):
        raise TypeError("not a record")
    return Record(**entry | {"critical": tuple(critical), "broken": tuple((n, c) for n, c in broken)})  # type: ignore[arg-type]


def _load(site: DocsSite, key: str) -> Record:
    return _from_json(json.loads(storage.read(site.spec, site.prefix + key)))


def _record_keys(site: DocsSite, prefix: str) -> Iterable[str]:
    for key in storage.list_keys(site.spec, site.prefix + prefix):
        if key.endswith(".json"):
            yield key.removeprefix(site.prefix)


def _record_key(page: str) -> str:
    return page.removesuffix(".html") + ".json"


def _page_key(record: str) -> str:
    return record.removesuffix(".json") + ".html"


def _write(site: DocsSite, key: str, text: str) -> None:
    storage.write(site.spec, site.prefix + key, text.encode())

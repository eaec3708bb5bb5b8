"""A run's counts on the edges of the lineage graph: stored beside its report, and read by ``cropline lineage``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cropline.core import storage
from cropline.core.keys import canonical_json
from cropline.lineage.graph import COUNTS
from cropline.pipeline.funnel import Funnel

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

_OF_POLL = ("polled", "landed", "valid", "quarantined")


@dataclass(frozen=True)
class RunRecord:
    """The counts of one run, by the names in lineage's COUNTS. None means that the run had no such step."""

    flow_run: str
    title: str
    counts: Mapping[str, int | None]
    manifest: str | None = None
    quarantine: str | None = None


def counts_of(funnel: Funnel) -> dict[str, int | None]:
    """Return the counts for the graph. A run that did not poll has no poll counts."""
    took_in = funnel.polled or funnel.landed
    return {name: getattr(funnel, name) if took_in or name not in _OF_POLL else None for name in COUNTS}


def write_record(spec: StoreSpec, report_key: str, record: RunRecord) -> None:
    """Store the record beside the report. Raises StorageError."""
    storage.write(spec, report_key.removesuffix(".html") + ".json", canonical_json(asdict(record)).encode())


def find_record(spec: StoreSpec, flow_run: str) -> RunRecord | None:
    """Return the record of a run, or None. ``flow_run``: the whole id. Raises StorageError."""
    for key in storage.list_keys(spec, "reports/"):
        if key.endswith(f"-{flow_run}.json"):
            record = RunRecord(**json.loads(storage.read(spec, key)))
            if record.flow_run == flow_run:
                return record
    return None

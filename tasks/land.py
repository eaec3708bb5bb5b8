"""land: the polled items become one immutable manifest in the object store. Nothing is dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task

from cropline import manifest
from cropline.run import Run
from cropline.settings import ApiSettings
from tasks.options import STEP
from tasks.poll import Polled


@dataclass(frozen=True)
class Landed:
    """A manifest in the store: its key, and how many rows it has."""

    key: str
    rows: int


def land(run: Run, polled: Polled) -> Landed:
    """Write the manifest. The same items always land under the same key. ``run.near`` keeps a copy for the steps after it."""
    api = run.settings.api
    path = run.folder / "manifest.parquet"
    rows = manifest.write_rows(_rows(polled.spool, api), path)
    key = manifest.land(path, api.source, polled.cursor[:10], run.spec)
    run.near = {key: path}
    return Landed(key, rows)


land_task = task(name="land", task_run_name="land {polled.fresh} items", **STEP)(land)


def _rows(spool: Path, api: ApiSettings) -> Iterator[dict[str, Any]]:
    with spool.open(encoding="utf-8") as file:
        for position, line in enumerate(file):
            yield manifest.manifest_row(position, json.loads(line), api)

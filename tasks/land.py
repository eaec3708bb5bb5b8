"""land: the polled items become one immutable manifest in the object store. Nothing is dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import task

from cropline import manifest
from cropline.run import Run
from cropline.settings import ApiSettings
from tasks.options import STEP
from tasks.poll import Polled


@task(name="land", task_run_name="land {polled.fresh} items", **STEP)
def land(run: Run, polled: Polled) -> str:
    """Write the manifest; gives its storage key. The same items always land under the same key."""
    api = run.settings.api
    path = run.folder / "manifest.parquet"
    run.funnel.landed = manifest.write_rows(_rows(polled.spool, api), path)
    run.funnel.manifest = manifest.land(path, api.source, polled.cursor[:10], run.spec)
    return run.funnel.manifest


def _rows(spool: Path, api: ApiSettings) -> Iterator[dict[str, Any]]:
    with spool.open(encoding="utf-8") as file:
        for position, line in enumerate(file):
            yield manifest.manifest_row(position, json.loads(line), api)

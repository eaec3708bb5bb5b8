"""land: writes the polled items to one immutable manifest in the store. Nothing is dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefect import task

from cropline.intake import manifest
from cropline.intake.grouping import grouped_rows
from cropline.pipeline.run import Run
from tasks.options import STEP
from tasks.poll import Polled


@dataclass(frozen=True)
class Landed:
    """A manifest in the store: its key, and how many rows it has."""

    key: str
    rows: int


def land(run: Run, polled: Polled) -> Landed:
    """Write the manifest. The same items always have the same key. ``run.near`` keeps a local copy for later steps."""
    api = run.settings.api
    path = run.folder / "manifest.parquet"
    rows = manifest.write_rows(_rows(run, polled.spool), path)
    key = manifest.land(path, api.source, polled.cursor[:10], run.spec)
    run.near = {key: path}
    return Landed(key, rows)


land_task = task(name="land", task_run_name="land {polled.fresh} items", **STEP)(land)


def _rows(run: Run, spool: Path) -> Iterator[dict[str, Any]]:
    api = run.settings.api
    if api.group_by_image:
        yield from grouped_rows(spool, api, run.spec, partial(places, run))
        return
    with spool.open(encoding="utf-8") as file:
        for position, line in enumerate(file):
            yield manifest.manifest_row(position, json.loads(line), api)


def places(run: Run, image_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Return manifest and row of the photos that were registered before."""
    if not image_ids:
        return {}
    from cropline.catalogue import Catalogue
    from cropline.pipeline.known_photos import find_known

    works = find_known(run.state, Catalogue(run.spec), run.settings.api.source, list(image_ids))
    newest = sorted(works, key=lambda work: (work.updated_at is not None, work.updated_at or work.first_seen))
    return {work.image_id: (work.manifest, work.manifest_row) for work in newest}

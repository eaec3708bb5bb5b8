"""validate: good rows go on, bad ones are quarantined with their reasons, too many bad ones fail the run.

Belongs here: the budget and where the results go. Does not: the rules (expectations/manifest.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from cropline import manifest
from cropline.errors import ManifestRejected
from cropline.run import Run
from cropline.stores import read_cameras, read_stores
from tasks.ending import Tell
from tasks.options import STEP
from tasks.warnings import warn

if TYPE_CHECKING:
    import pyarrow as pa

    from expectations.validate import Verdict


@dataclass(frozen=True)
class Validated:
    """What is good in a manifest."""

    manifest: str
    rows: int
    bad: dict[int, list[str]]  # manifest row -> names of the broken expectations
    events: list[dict[str, Any]]  # for lineage: they are stored when the rows are registered


@task(name="validate", task_run_name="validate {manifest_key}", **STEP)
def validate(run: Run, manifest_key: str) -> Validated:
    """Judge every row of a landed manifest; write the bad ones to quarantine. Raises ManifestRejected over the budget."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from cropline.lineage.metrics import column_metrics
    from expectations.drift import watch

    started_at = datetime.now(UTC)
    rows = manifest.read(run.spec, manifest_key)
    verdict = _judge(run, rows, manifest_key)
    quarantine = _quarantine(run, rows, verdict, manifest_key) if verdict.bad_rows else None
    run.funnel.valid, run.funnel.quarantined = rows.num_rows - len(verdict.bad_rows), len(verdict.bad_rows)
    run.funnel.quarantine = quarantine
    run.funnel.broken = Counter(name for names in verdict.bad_rows.values() for name in names)
    run.funnel.docs = verdict.docs_url
    rejected = _over_budget(run, verdict, manifest_key)
    events = run.story.validated(
        datetime.now(UTC),
        started_at=started_at,
        manifest=manifest_key,
        rows=rows.num_rows,
        outcomes=verdict.outcomes,
        quarantined=len(verdict.bad_rows),
        quarantine=quarantine,
        error=rejected,
        columns=column_metrics(rows),
    )
    if rejected is not None:
        run.tell(events)
        raise ManifestRejected(rejected)
    good = rows.filter(pc.invert(pc.is_in(rows["row"], pa.array(list(verdict.bad_rows), pa.int64()))))
    warn(run, watch(run.spec, run.settings.api.source, good, manifest_key, now=started_at))
    return Validated(manifest_key, rows.num_rows, verdict.bad_rows, events)


def unjudged(run: Run, manifest_key: str) -> Tell:
    """What is told of a validation that could not be done."""
    return lambda at, began, kind, why: run.story.validate_failed(
        at, started_at=began, manifest=manifest_key, error=why, kind=kind
    )


def _judge(run: Run, rows: pa.Table, manifest_key: str) -> Verdict:
    from expectations.validate import validate_manifest

    settings = run.settings
    stores = read_stores(run.spec, settings.engine.stores)
    return validate_manifest(
        rows,
        settings.expectations,
        run_name=f"{run.context.run_name} {Path(manifest_key).stem}",
        now=datetime.now(UTC),
        allowed_hosts=settings.fetch.allowed_hosts,
        stored_schemes=settings.fetch.stored_schemes,
        known_stores=set(stores["store_id"].to_pylist()) if stores.num_rows else None,
        known_cameras=read_cameras(run.spec, settings.engine.stores),
        docs=run.spec,
        boxes_fail_alone=settings.expectations.boxes_fail_alone,
    )


def _quarantine(run: Run, rows: pa.Table, verdict: Verdict, manifest_key: str) -> str:
    from cropline.quarantine import add_rows, quarantine_key
    from expectations.quarantine import quarantine_table

    add_rows(run.spec, manifest_key, quarantine_table(rows, verdict, manifest_key))
    return quarantine_key(manifest_key)


def _over_budget(run: Run, verdict: Verdict, manifest_key: str) -> str | None:
    """Why nothing of this manifest may be registered, if so."""
    rules = run.settings.expectations
    if verdict.critical:
        return f"{manifest_key}: broken as a whole ({', '.join(verdict.critical)}); nothing was registered"
    if not verdict.exceeds_budget(rules):
        return None
    common = ", ".join(f"{name} {count}" for name, count in run.funnel.broken.most_common(3))
    return (
        f"{manifest_key}: {len(verdict.bad_rows)} of {verdict.rows} rows are bad ({common}), more than "
        f"max_quarantined_fraction = {rules.max_quarantined_fraction}; nothing was registered"
    )

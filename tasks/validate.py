"""validate: passes good rows on and quarantines bad ones with their reasons. Too many bad rows fail the run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from cropline.intake import manifest
from cropline.intake.stores import read_cameras, read_stores
from cropline.pipeline.funnel import Funnel
from cropline.pipeline.run import Run
from tasks.options import STEP
from tasks.run_status import Emit
from tasks.warnings import warn

if TYPE_CHECKING:
    import pyarrow as pa

    from expectations.validate import Verdict


@dataclass(frozen=True)
class Validated:
    """The validation of a manifest."""

    manifest: str
    rows: int
    bad: dict[int, list[str]]  # manifest row -> names of the broken expectations
    superseded: frozenset[int]  # manifest rows that a newer row of the same image replaces
    events: list[dict[str, Any]]  # lineage events that are stored when the rows are registered
    counts: Funnel
    rejected: str | None = None  # why no row may be registered, if so; its events are stored already


def validate(run: Run, manifest_key: str) -> Validated:
    """Validate every row of a landed manifest, and write the bad ones to quarantine."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from cropline.lineage.metrics import column_metrics
    from drift.detect import check_manifest
    from expectations.hints import hints

    started_at = datetime.now(UTC)
    rows = manifest.read_mapped(run.spec, manifest_key, run.near.get(manifest_key))
    verdict = _validate_rows(run, rows, manifest_key)
    bad = _bad(run, rows, verdict, manifest_key) if verdict.bad_rows else rows.slice(0, 0)
    quarantine = _quarantine(run, bad, verdict, manifest_key) if verdict.bad_rows else None
    counts = Funnel(
        valid=verdict.judged - len(verdict.bad_rows),
        superseded=len(verdict.superseded),
        quarantined=len(verdict.bad_rows),
        quarantine=quarantine,
        broken=Counter(name for names in verdict.bad_rows.values() for name in names),
        docs=verdict.docs_url,
        hints=hints(bad, verdict.bad_rows),
    )
    rejected = _over_budget(run, verdict, counts, manifest_key)
    events = run.event_builder.validated(
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
        run.emit(events)
        return Validated(manifest_key, rows.num_rows, verdict.bad_rows, verdict.superseded, events, counts, rejected)
    left = pa.array([*verdict.bad_rows, *verdict.superseded], pa.int64())
    good = rows.filter(pc.invert(pc.is_in(rows["row"], left)))
    # A photo that is announced again with a new URL was counted before.
    first = run.state.unseen(run.settings.api.source, good["item_digest"].to_pylist())
    good = good.filter(pc.is_in(good["item_digest"], pa.array(sorted(first), pa.string())))
    counts.warnings = warn(run, check_manifest(run.spec, run.settings.api.source, good, manifest_key, now=started_at))
    return Validated(manifest_key, rows.num_rows, verdict.bad_rows, verdict.superseded, events, counts)


validate_task = task(name="validate", task_run_name="validate {manifest_key}", **STEP)(validate)


def without_validation(run: Run, manifest_key: str) -> Emit:
    """Return the events of a validation that could not run."""
    return lambda at, began, kind, why: run.event_builder.validate_failed(
        at, started_at=began, manifest=manifest_key, error=why, kind=kind
    )


def _validate_rows(run: Run, rows: pa.Table, manifest_key: str) -> Verdict:
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


def _bad(run: Run, rows: pa.Table, verdict: Verdict, manifest_key: str) -> pa.Table:
    """Return the bad rows, with the raw items of those that could not be mapped."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from expectations.hints import first_rows

    bad = rows.filter(pc.is_in(rows["row"], pa.array(list(verdict.bad_rows), pa.int64())))
    unread = bad.filter(pc.greater(pc.fill_null(pc.list_value_length(bad["unreadable"]), 0), 0))["row"].to_pylist()
    told = {row for found in first_rows(verdict.bad_rows).values() for row in found}
    items = manifest.read_rows(run.spec, manifest_key, [*unread, *told], ["raw"], run.near.get(manifest_key))
    raw = dict(zip(items["row"].to_pylist(), items["raw"].to_pylist(), strict=True))
    kept = pa.array([raw.get(row) for row in bad["row"].to_pylist()], pa.string())
    return bad.set_column(bad.schema.get_field_index("raw"), "raw", kept)


def _quarantine(run: Run, rows: pa.Table, verdict: Verdict, manifest_key: str) -> str:
    from cropline.intake.quarantine import add_rows, quarantine_key
    from expectations.quarantine import quarantine_table

    add_rows(run.spec, manifest_key, quarantine_table(rows, verdict, manifest_key))
    return quarantine_key(manifest_key)


def _over_budget(run: Run, verdict: Verdict, counts: Funnel, manifest_key: str) -> str | None:
    """Return why no row of this manifest may be registered, or None."""
    rules = run.settings.expectations
    if verdict.critical:
        return f"{manifest_key}: broken as a whole ({', '.join(verdict.critical)}); nothing was registered"
    if not verdict.exceeds_budget(rules):
        return None
    common = ", ".join(f"{name} {count}" for name, count in counts.broken.most_common(3))
    most = counts.broken.most_common(1)[0][0]
    return (
        f"{manifest_key}: {len(verdict.bad_rows)} of {verdict.judged} rows are bad ({common}), more than "
        f"max_quarantined_fraction = {rules.max_quarantined_fraction}; nothing was registered. {most}: {counts.hints[most]}"
    )

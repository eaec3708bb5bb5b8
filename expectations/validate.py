"""Validates one manifest: which rows are bad and why, and whether the manifest can be used at all.

The error budget is applied in tasks/validate.py.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cropline.config.expectations import ExpectationSettings
from cropline.core.store_spec import StoreSpec
from expectations.manifest import SHAPE_RULES, SUPERSEDED, VERSION_RULES, Rule, row_rules

if TYPE_CHECKING:
    import pyarrow as pa

    from expectations.gx import ExpectationOutcome, SuiteRun


@dataclass(frozen=True)
class Verdict:
    """The result of a validation.

    ``critical``: broken rules that make the manifest unusable; then no row was checked.
    """

    bad_rows: dict[int, list[str]]  # manifest row -> broken expectations of severity warning, in the suite's order
    outcomes: list[ExpectationOutcome]
    critical: list[str]
    rows: int
    docs_url: str | None  # this run's page in Data Docs
    superseded: frozenset[int] = frozenset()  # manifest rows that a newer row of the same image replaces; none is bad

    @property
    def judged(self) -> int:
        """Number of rows that the error budget refers to. Superseded rows say nothing about the source."""
        return self.rows - len(self.superseded)

    @property
    def bad_fraction(self) -> float:
        """Bad rows as a share of the judged ones; 0 when there are none."""
        return len(self.bad_rows) / self.judged if self.judged else 0.0

    def exceeds_budget(self, rules: ExpectationSettings) -> bool:
        """Whether so many rows are bad that none may be registered."""
        return self.judged >= rules.min_rows_for_budget and self.bad_fraction > rules.max_quarantined_fraction


def validate_manifest(
    manifest: pa.Table,
    rules: ExpectationSettings,
    *,
    run_name: str,
    now: datetime,
    allowed_hosts: Sequence[str] = (),
    stored_schemes: Sequence[str] = (),
    known_stores: Set[str] | None = None,
    known_cameras: Set[tuple[str, str]] | None = None,
    docs: Path | StoreSpec | None = None,
    boxes_fail_alone: bool = False,
) -> Verdict:
    """Validate every row of a manifest (schemas.MANIFEST).

    ``run_name``: names the page. ``now``: what the rules on times compare with. ``allowed_hosts``: empty allows all.
    ``stored_schemes``: URL schemes of buckets and folders. ``known_stores``: ids of the store table, if there is one.
    ``known_cameras``: its (store, camera), if it lists them. ``docs``: folder or store (below docs/) of Data Docs; None
    writes none. ``boxes_fail_alone``: bad boxes are left to the crop job, which cuts the others of their image.
    Raise ManifestError when an expectation could not be evaluated.
    """
    hosts = [host.strip().lower() for host in allowed_hosts]
    on_rows = row_rules(
        rules,
        hosts=hosts,
        schemes=stored_schemes,
        stores=known_stores,
        cameras=known_cameras,
        boxes_fail_alone=boxes_fail_alone,
    )
    runs = _run_suites(manifest, on_rows, now, hosts, stored_schemes, known_stores, known_cameras)
    outcomes = [outcome for run in runs for outcome in run.outcomes]
    critical = [o.name for o in outcomes if o.severity == "critical" and not o.success]
    superseded = frozenset[int]() if critical else _superseded(runs)
    bad = {} if critical else {row: names for row, names in _bad_rows(runs).items() if row not in superseded}
    return Verdict(
        bad_rows=bad,
        outcomes=outcomes,
        critical=critical,
        rows=manifest.num_rows,
        superseded=superseded,
        docs_url=_publish(docs, runs, run_name, now, len(bad), manifest.num_rows) if docs is not None else None,
    )


def _publish(
    docs: Path | StoreSpec, runs: Sequence[SuiteRun], run_name: str, now: datetime, bad: int, rows: int
) -> str:
    from expectations.data_docs import DocsSite, publish

    return publish(DocsSite.at(docs), runs, run_name=run_name, now=now, bad=bad, rows=rows)


def _run_suites(
    manifest: pa.Table,
    on_rows: Sequence[Rule],
    now: datetime,
    hosts: Sequence[str],
    schemes: Sequence[str],
    known_stores: Set[str] | None,
    known_cameras: Set[tuple[str, str]] | None,
) -> list[SuiteRun]:
    import numpy as np

    from expectations.columns import row_frame, shape_frame, version_frame
    from expectations.gx import run_suite

    shape = run_suite("manifest shape", shape_frame(manifest), SHAPE_RULES)
    if shape.broken:
        return [shape]
    frame = row_frame(
        manifest, now=now, hosts=hosts, schemes=schemes, known_stores=known_stores, known_cameras=known_cameras
    )
    rows = run_suite("manifest rows", frame, on_rows)
    if any(outcome.severity == "critical" and not outcome.success for outcome in rows.outcomes):
        return [shape, rows]
    good = ~np.isin(manifest["row"].to_numpy(), list(_bad_rows([rows])))
    versions = run_suite("manifest versions", version_frame(manifest, good), VERSION_RULES)
    return [shape, rows, versions]


def _bad_rows(runs: Sequence[SuiteRun]) -> dict[int, list[str]]:
    bad: dict[int, list[str]] = {}
    for run in runs:
        for outcome in run.outcomes:
            if outcome.severity == "warning":
                for row in run.broken.get(outcome.name, ()):
                    bad.setdefault(row, []).append(outcome.name)
    return dict(sorted(bad.items()))


def _superseded(runs: Sequence[SuiteRun]) -> frozenset[int]:
    return frozenset(row for run in runs for row in run.broken.get(SUPERSEDED.name, ()))

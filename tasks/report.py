"""report: the run's summary as an artifact in the Prefect UI and as an HTML file and contact sheet in the output store."""

from __future__ import annotations

import json
from uuid import UUID

from prefect import task

from cropline import storage
from cropline.report.lineage import RunRecord, counts_of, write_record
from cropline.report.places import places, report_key
from cropline.report.summary import html_page, markdown, summarise
from cropline.run import Run
from tasks.options import STEP
from tasks.show import show


def report(run: Run) -> UUID:
    """Show what the run did so far, in the artifacts that it has already if it was shown before; gives the summary's id."""
    funnel, context = run.funnel, run.context
    key = report_key(context.flow_name, context.flow_run_id, f"{context.started_at:%Y-%m-%d}")
    sheet_key = key.removesuffix(".html") + ".jpg"
    funnel.report, funnel.sheet = key, sheet_key if funnel.samples else None
    browse_url = run.settings.storage.browse_url
    summary = summarise(context.run_name, funnel, places(run.settings, funnel), run.spec, browse_url)
    if summary.sheet:
        storage.write(run.spec, sheet_key, summary.sheet)
    storage.write(run.spec, key, html_page(summary).encode())
    record = RunRecord(context.flow_run_id, context.run_name, counts_of(funnel), funnel.manifest, funnel.quarantine)
    write_record(run.spec, key, record)
    if summary.failures:
        failures = json.dumps(summary.failures)
        show("table", f"{context.flow_name}-failures", failures, f"{context.run_name}: what failed", run.shown)
    return show("markdown", f"{context.flow_name}-summary", markdown(summary), summary.verdict, run.shown)


report_task = task(name="report", task_run_name="report", **STEP)(report)

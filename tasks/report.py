"""report: the run's summary as an artifact in the Prefect UI, and as HTML file and contact sheet in the store."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

from prefect import task

from cropline.core import storage
from cropline.pipeline.run import Run
from cropline.reports.places import places, report_key
from cropline.reports.run_record import RunRecord, counts_of, write_record
from cropline.reports.summary import html_page, lineage_picture, markdown, sample_sheet, summarise
from cropline.reports.throughput import throughput_svg
from tasks.harmless import harmless
from tasks.options import STEP
from tasks.show import show


def report(run: Run) -> UUID | None:
    """Show what the run did so far. A later call updates the same artifacts. Return the id of the summary.

    It never fails the run: a part that cannot be drawn or stored is left out, and the log says why.
    """
    with harmless("the report"):
        return _report(run)
    return None


def _report(run: Run) -> UUID | None:
    funnel, context = run.funnel, run.context
    key = report_key(context.flow_name, context.flow_run_id, f"{context.started_at:%Y-%m-%d}")
    sheet_key, sheet = key.removesuffix(".html") + ".jpg", None
    funnel.sheet = None
    with harmless("the contact sheet"):
        sheet = sample_sheet(funnel, run.spec)
        if sheet is not None:
            storage.write(run.spec, sheet_key, sheet)
            funnel.sheet = sheet_key
    lineage = throughput = None
    with harmless("the picture of the lineage"):
        lineage = lineage_picture(funnel)
    with harmless("the picture of the throughput"):
        throughput = throughput_svg(funnel)
    browse_url = run.settings.storage.browse_url
    where = places(run.settings, replace(funnel, report=key))
    summary = summarise(
        context.run_name, funnel, where, run.spec, browse_url, sheet=sheet, lineage=lineage, throughput=throughput
    )
    with harmless("the HTML report"):
        storage.write(run.spec, key, html_page(summary).encode())
        funnel.report = key
    with harmless("the record for cropline lineage"):
        record = RunRecord(context.flow_run_id, context.run_name, counts_of(funnel), funnel.manifest, funnel.quarantine)
        write_record(run.spec, key, record)
    if summary.failures:
        with harmless("the table of failures"):
            failures = json.dumps(summary.failures)
            show(
                "table",
                run.settings.named(f"{context.flow_name}-failures"),
                failures,
                f"{context.run_name}: what failed",
                run.shown,
            )
    return show(
        "markdown", run.settings.named(f"{context.flow_name}-summary"), markdown(summary), summary.verdict, run.shown
    )


report_task = task(name="report", task_run_name="report", **STEP)(report)

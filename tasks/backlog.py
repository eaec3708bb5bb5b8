"""backlog: samples the backlog at the end of every run, draws it from time to time, and warns when it is old.

Not a task, because an idle poll does it too.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect.events import emit_event

from cropline.pipeline.run import Run
from tasks.harmless import harmless
from tasks.show import show

# Polls come every minute, to within a few seconds.
_EVERY = timedelta(seconds=50)
_IDLE_RUNS_DRAW_EVERY_MIN = 5


def note_backlog(run: Run) -> None:
    """Sample the backlog. Show it when the run did something, or every five minutes. It never fails a run."""
    with harmless("the backlog"):
        if run.state.sample_backlog(at_most_every=_EVERY):
            _emit_when_old(run)
        if not run.funnel.nothing_new or datetime.now(UTC).minute % _IDLE_RUNS_DRAW_EVERY_MIN == 0:
            _draw(run)


def _draw(run: Run) -> None:
    from cropline.reports.backlog import LOOK_BACK, backlog_markdown, backlog_verdict

    report = run.state.report(last_batches=0)
    samples = run.state.backlog_samples(report.at - LOOK_BACK)
    show("markdown", run.settings.named("backlog"), backlog_markdown(report, samples), backlog_verdict(report))


def _emit_when_old(run: Run) -> None:
    """Emit an event on which an automation can act, such as the one in automations/alerts.yaml."""
    last = run.state.backlog_samples(datetime.now(UTC) - 2 * _EVERY)[-1:]
    since = last[0].oldest_pending_since if last else None
    if since is not None and last[0].at - since > run.settings.state.alert_age:
        minutes = (last[0].at - since).total_seconds() / 60
        emit(
            "backlog.old",
            run,
            f"the oldest pending photo has waited for {minutes:,.0f} min; {last[0].pending:,} are pending",
        )


def emit(what: str, run: Run, message: str) -> None:
    """Emit ``cropline.<what>`` about the run's source. Users see ``message``: it must be scrubbed."""
    names = run.settings.source_names
    source = names[0] if len(names) == 1 else "all"
    emit_event(
        f"cropline.{what}",
        resource={
            "prefect.resource.id": run.settings.resource("source", source),
            "prefect.resource.name": f"{source}: {message}",
        },
        payload={"message": message},
    )

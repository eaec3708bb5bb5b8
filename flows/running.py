"""What every flow does around its steps: open the run, and report how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from tempfile import gettempdir
from typing import Annotated

from prefect import get_run_logger, runtime
from prefect.context import FlowRunContext
from pydantic import Field

from cropline.config.settings import Settings, load_installation, load_settings
from cropline.core.errors import CroplineError, ManifestRejected, SettingsError
from cropline.core.scrub import one_line, visible
from cropline.core.spans import Spans
from cropline.lineage import EventKind, RunContext
from cropline.pipeline.run import Run, open_spans, progress_callback
from cropline.reports.problems import check_came_through, problem_lines
from tasks.assets import emit_assets
from tasks.backlog import emit, note_backlog
from tasks.forget import recall_erasures
from tasks.publish import publish, publish_task
from tasks.report import report_task
from tasks.run_status import run_status

Source = Annotated[
    str | None,
    Field(title="Source", description="name of one of several sources (CROPLINE_SOURCES); empty: the only one"),
]


def run_name(flow: str) -> Callable[[], str]:
    """Return a function that names a flow run by its flow, source and due time: "poll acme 2026-11-22 08:40 UTC"."""

    def name() -> str:
        due = runtime.flow_run.scheduled_start_time or datetime.now(UTC)
        source = runtime.flow_run.parameters.get("source")
        return f"{f'{flow} {source}' if source else flow} {due.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

    return name


@contextmanager
def open_run(flow: str, source: str | None = None, *, all_sources: bool = False) -> Iterator[Run]:
    """Yield the run of one flow. On exit, check its counts, publish its lineage and show its report.

    A failure is reported the same way and then raised. What was committed before it stays committed.
    """
    with bare_run(flow, source, all_sources=all_sources) as run:
        with run.begin():
            try:
                recall_erasures(run)
                yield run
                run.funnel.reconcile()
                _log_problems(run)
                check_came_through(run.funnel)
            except BaseException as error:
                _emit_failure(run, error)
                raise
            _emit_end(run, "COMPLETE", None)
        with run.spans.span("publish"):
            if run.funnel.nothing_new:
                publish(run)  # an idle poll saves the cost of a task run
            else:
                publish_task(run)
                report_task(run)
                emit_assets(run)
            note_backlog(run)


def _log_problems(run: Run) -> None:
    """Log why rows are bad and boxes failed."""
    for line in problem_lines(run.funnel):
        get_run_logger().warning("%s", visible(line))


@contextmanager
def drained_on_failure(drain: Callable[[], object]) -> Iterator[None]:
    """Around an intake: when it fails, run ``drain`` on what is registered, then raise the failure."""
    try:
        yield
    except Exception:
        try:
            drain()
        except Exception as second:  # noqa: BLE001 - the intake's failure is raised; this one is in the log
            get_run_logger().warning("the backlog could not be cropped either: %s", one_line(f"{second}"))
        raise


@contextmanager
def bare_run(flow: str, source: str | None = None, *, all_sources: bool = False) -> Iterator[Run]:
    """Yield a run with its settings and state open. It emits no events and shows no report.

    ``source``: its name; None is the only one, or with ``all_sources`` every one.
    """
    settings = load_installation() if all_sources and source is None else load_settings(source)
    deployment = _deployment()
    if deployment is not None:
        refuse_fleeting_places(settings, Path.cwd())
    context = _context(flow, settings.engine.kind, deployment)
    with _traced(settings, context) as spans:
        context = replace(context, trace_id=spans.trace_id)
        get_run_logger().info("%s", _ran_with(settings, spans.trace_id))
        with Run(settings, context, progress_callback(), spans) as run:
            yield run


@contextmanager
def _traced(settings: Settings, context: RunContext) -> Iterator[Spans]:
    """Yield the run's spans, inside the one that covers all of it. A collector that fails is a warning in the log."""
    spans = open_spans(
        settings,
        context.flow_run_id,
        **{"host.name": gethostname(), "deployment.environment.name": settings.environment},
    )
    known = {"run": context.run_name, "deployment": context.deployment, "engine": context.engine}
    try:
        with spans.span(context.flow_name, **known):
            yield spans
    finally:
        if lost := spans.close():
            get_run_logger().warning("traces: %s", lost)


def _ran_with(settings: Settings, trace_id: str) -> str:
    """Return what a run ran with: a worker that was not restarted has the version and settings of its start."""
    where = f", environment {settings.environment}" if settings.environment else ""
    traced = f", trace {trace_id}" if trace_id else ""
    return f"cropline {version('cropline')} on {gethostname()}, settings {settings.digest}{where}{traced}"


def refuse_fleeting_places(settings: Settings, here: Path) -> None:
    """Raise SettingsError when state, storage or lineage is in a worker's temporary folder.

    A worker removes that folder after each run. The default settings are relative to it.
    """
    if here.parent != Path(gettempdir()).resolve() or not here.name.endswith("prefect"):
        return
    output, state = settings.storage.spec.local_path, settings.state.url.get_secret_value()
    events = settings.lineage.path if "file" in settings.lineage.transport_names else None
    fleeting = {
        "CROPLINE_STORAGE__URL": output is not None and output.is_relative_to(here),
        "CROPLINE_STATE__URL": state.startswith("sqlite:///")
        and not state.startswith(("sqlite:////", "sqlite:///file:")),
        "CROPLINE_LINEAGE__PATH": events is not None and (here / events).is_relative_to(here),
    }
    wrong = [name for name, lost in fleeting.items() if lost]
    if wrong:
        raise SettingsError(
            f"{', '.join(wrong)}: is in this run's temporary folder, which the worker removes; set an absolute path in the "
            "worker's environment"
        )


def _emit_failure(run: Run, error: BaseException) -> None:
    """Report a failed run. Errors of the report are logged; the caller raises the failure."""
    run.add(run.half)
    kind = run_status(error)
    stopped = kind == "ABORT"
    try:
        _emit_end(run, kind, one_line(f"{type(error).__name__}: {error}"))
        if not stopped:  # a cancelled run has only seconds left; its events stay in the outbox
            publish_task(run)
            if not run.funnel.nothing_new:
                report_task(run)
            if isinstance(error, ManifestRejected):
                emit("manifest.rejected", run, one_line(str(error)))
            note_backlog(run)
    except CroplineError as second:
        get_run_logger().warning("the failed run could not be reported: %s", second)


def _emit_end(run: Run, kind: EventKind, error: str | None) -> None:
    funnel = run.funnel
    events = run.event_builder.ended(
        datetime.now(UTC),
        kind=kind,
        error=error,
        polled=funnel.polled,
        landed=funnel.landed,
        manifest=funnel.manifest,
    )
    if not run.end(kind, events):
        get_run_logger().warning("lineage: another run considered this one dead and has emitted its end")


def _deployment() -> str | None:
    """Return the deployment's name; None outside of one. There ``runtime`` would ask the server for each of its values."""
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None and context.flow_run.deployment_id is None:
        return None
    name: str | None = runtime.deployment.name
    return name


def _context(flow: str, engine: str, deployment: str | None) -> RunContext:
    flow_run = runtime.flow_run
    return RunContext(
        flow_run_id=str(flow_run.id),
        flow_name=flow,
        run_name=str(flow_run.name),
        deployment=deployment,
        started_at=datetime.now(UTC),
        nominal_time=flow_run.scheduled_start_time,
        engine=engine,
        engine_version="",
        prefect_url=flow_run.ui_url,
    )

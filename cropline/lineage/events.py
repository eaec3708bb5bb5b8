"""OpenLineage run events, as pure functions: the frame of an event, its ids, and what every event of a run carries.

Which datasets a job reads and writes is in event_builder.py. An event is fixed when it is built: publishing it again
sends the same event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import NAMESPACE_DNS, UUID, uuid5

from cropline.core.keys import canonical_json
from cropline.core.scrub import one_line, scrub
from cropline.lineage import facets

Event = dict[str, Any]
EventKind = Literal["START", "COMPLETE", "FAIL", "ABORT"]

_IDS = uuid5(NAMESPACE_DNS, "lineage.cropline")

# The package whose version a run reports for its engine. The native engine is Fugue's own, on pandas.
_ENGINE_PACKAGES = {"native": "fugue", "spark": "pyspark", "spark-connect": "pyspark", "emr-serverless": "pyspark"}
# With "auto" each batch has its own engine, and the run has none.
_UNDECIDED = "auto"

# These fields have fixed values. Scrubbing would treat the fragment of a schema's URL as a secret.
_KEPT = {"_schemaURL", "schemaURL", "_producer", "producer"}

DESCRIPTIONS = {
    "cropline.poll": "Polls the image API, validates and registers new rows, and crops the backlog.",
    "cropline.watch": "Looks for new photos every second, and crops them at once.",
    "cropline.process": "Crops the backlog without polling.",
    "cropline.backfill": "Crops photos of a time window that polls missed or cropped differently.",
    "cropline.replay": "Tries again what failed, is dead, or is in quarantine.",
    "cropline.validate": "Validates every row of one manifest; bad rows go to quarantine, good ones become work items.",
    "cropline.crop": "Cuts the boxes of one batch of photos and commits the crops to the catalogue.",
    "cropline.forget": "Begins or continues an erasure.",
    "cropline.erasure": "Removes everything that was made from some photos, for good.",
    "cropline.maintain": "Maintains the catalogue and the store every night.",
    "cropline.maintain.catalogue": "Compacts and vacuums the catalogue.",
}


@dataclass(frozen=True)
class RunContext:
    """One flow run, as its events name it. ``engine_version`` may be empty: then the installed version is looked up."""

    flow_run_id: str
    flow_name: str
    run_name: str
    deployment: str | None
    started_at: datetime
    nominal_time: datetime | None
    engine: str
    engine_version: str
    prefect_url: str | None
    trace_id: str = ""  # of the run's trace; empty: none

    @property
    def job(self) -> str:
        """The job of the whole flow."""
        return self.flow_name if self.flow_name.startswith("cropline.") else f"cropline.{self.flow_name}"


def engine_version(engine: str) -> str:
    """The version of the engine's package, from its metadata, without importing it.

    "not installed" for a missing package: the run's own error says what to do.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(_ENGINE_PACKAGES.get(engine, engine))
    except PackageNotFoundError:
        return "not installed"


def run_id(flow_run_id: str, job: str, part: str = "") -> str:
    """The OpenLineage run id of a job in a flow run.

    ``part`` (a batch id, a manifest) distinguishes runs of one job.
    """
    return str(uuid5(_IDS, canonical_json([flow_run_id, job, part])))


def event_id(event: Event) -> str:
    """The id of an event in the outbox.

    A run has one id for its start and one for its end, whatever kind of end it is.
    """
    return str(uuid5(UUID(event["run"]["runId"]), "start" if event["eventType"] == "START" else "end"))


def run_event(
    kind: EventKind,
    job: str,
    context: RunContext,
    *,
    at: datetime,
    namespace: str = "cropline",
    part: str = "",
    inputs: Sequence[Mapping[str, Any]] = (),
    outputs: Sequence[Mapping[str, Any]] = (),
    error: str | None = None,
    tags: Mapping[str, str | None] | None = None,
    engine: str | None = None,
) -> Event:
    """One OpenLineage RunEvent. ``job`` is the flow's own (context.job), or a step's, whose parent is the flow.

    ``engine``: the step's engine, when it is not the run's. ``at`` needs a time zone. Every text is scrubbed, and
    ``error`` becomes one line.
    """
    is_flow = job == context.job and not part
    event = {
        "eventType": kind,
        "eventTime": facets.timestamp(at),
        "producer": facets.producer(),
        "schemaURL": facets.EVENT_SCHEMA,
        "run": {
            "runId": run_id(context.flow_run_id, job, part),
            "facets": _run_facets(context, namespace, is_flow, error, tags or {}, engine or context.engine),
        },
        "job": {"namespace": namespace, "name": job, "facets": _job_facets(job, is_flow)},
        "inputs": [dict(dataset) for dataset in inputs],
        "outputs": [dict(dataset) for dataset in outputs],
    }
    scrubbed: Event = _scrubbed(event)
    return scrubbed


def abort_of(start: Event, at: datetime, why: str) -> Event:
    """The ABORT event of a killed run, made from its START: the run itself can no longer emit its end."""
    run = {
        **start["run"],
        "facets": {**start["run"]["facets"], "errorMessage": facets.error_message(one_line(why, 1000))},
    }
    return {**start, "eventType": "ABORT", "eventTime": facets.timestamp(at), "run": run}


def _run_facets(
    context: RunContext,
    namespace: str,
    is_flow: bool,
    error: str | None,
    tags: Mapping[str, str | None],
    engine: str,
) -> dict[str, Any]:
    found = {"tags": facets.tags("PREFECT", {**_prefect_tags(context), **tags})}
    if engine != _UNDECIDED:
        known = context.engine_version if engine == context.engine else ""
        found["processing_engine"] = facets.engine(engine, known or engine_version(engine))
    if not is_flow:
        found["parent"] = facets.parent(run_id(context.flow_run_id, context.job), namespace, context.job)
    if context.nominal_time is not None:
        found["nominalTime"] = facets.nominal_time(context.nominal_time)
    if error is not None:
        found["errorMessage"] = facets.error_message(one_line(error, 1000))
    return found


def _prefect_tags(context: RunContext) -> dict[str, str | None]:
    return {
        "prefect.flow_run_id": context.flow_run_id,
        "prefect.flow_run_name": context.run_name,
        "prefect.flow": context.flow_name,
        "prefect.deployment": context.deployment,
        "prefect.url": context.prefect_url,
        "otel.trace_id": context.trace_id or None,
    }


def _job_facets(job: str, is_flow: bool) -> dict[str, Any]:
    found = {"jobType": facets.job_type("FLOW" if is_flow else "TASK")}
    if job in DESCRIPTIONS:
        found["documentation"] = facets.documentation(DESCRIPTIONS[job])
    if (source := facets.source_code()) is not None:
        found["sourceCodeLocation"] = facets.source_location(*source)
    return found


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {key: inner if key in _KEPT else _scrubbed(inner) for key, inner in value.items()}
    return [_scrubbed(inner) for inner in value] if isinstance(value, list) else value

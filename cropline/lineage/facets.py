"""OpenLineage facets as dicts: one function per facet, each naming the version of its schema.

events.py and event_builder.py decide which event carries which facet. A test checks every facet against the project's
official JSON Schemas and the schema URLs of the installed openlineage-python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.core.columns import Column

Facet = dict[str, Any]

SPEC = "https://openlineage.io/spec"
EVENT_SCHEMA = f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"

_VERSIONS = {
    "ColumnLineageDatasetFacet": "1-2-0",
    "DataQualityAssertionsDatasetFacet": "1-1-0",
    "DataQualityMetricsInputDatasetFacet": "1-0-3",
    "DatasetVersionDatasetFacet": "1-0-1",
    "DocumentationJobFacet": "1-1-0",
    "ErrorMessageRunFacet": "1-0-1",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "LifecycleStateChangeDatasetFacet": "1-0-1",
    "NominalTimeRunFacet": "1-0-1",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
    "SchemaDatasetFacet": "1-2-0",
    "SourceCodeLocationJobFacet": "1-1-0",
    "StorageDatasetFacet": "1-0-1",
    "TagsRunFacet": "1-0-0",
}

# OpenLineage's common values. Ours mean: fail the run, quarantine the row, count only.
_SEVERITIES = {"critical": "error", "warning": "warn", "info": "info"}


class Expectation(Protocol):
    """The result of one expectation, as the expectations package returns it."""

    @property
    def name(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def column(self) -> str | None: ...
    @property
    def evaluated(self) -> int: ...
    @property
    def unexpected(self) -> int: ...
    @property
    def success(self) -> bool: ...
    @property
    def description(self) -> str: ...


@cache
def version() -> str:
    """The version of the installed cropline."""
    from importlib.metadata import version

    return version("cropline")


@cache
def source_code() -> tuple[str, str] | None:
    """Repository address and commit of the installed cropline, when it was installed from git (PEP 610), else None."""
    import json
    from importlib.metadata import distribution

    origin = json.loads(distribution("cropline").read_text("direct_url.json") or "{}")
    info = origin.get("vcs_info", {})
    return (origin["url"], info["commit_id"]) if info.get("vcs") == "git" and "commit_id" in info else None


def producer() -> str:
    """The URI of the program that made an event."""
    return f"urn:cropline:{version()}"


def facet(schema: str, **fields: Any) -> Facet:
    """A facet of the named schema. Fields that are None are left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    url = f"{SPEC}/facets/{_VERSIONS[schema]}/{schema}.json#/$defs/{schema}"
    return {"_producer": producer(), "_schemaURL": url, **known}


def timestamp(moment: datetime) -> str:
    """Return ISO 8601 in UTC with microseconds, so that texts sort as times do. The time must have a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"a time without time zone: {moment.isoformat()}")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parent(run_id: str, namespace: str, name: str) -> Facet:
    """The parent run, which is also the root: runs are two levels deep."""
    of = {"run": {"runId": run_id}, "job": {"namespace": namespace, "name": name}}
    return facet("ParentRunFacet", **of, root=of)


def nominal_time(due: datetime) -> Facet:
    return facet("NominalTimeRunFacet", nominalStartTime=timestamp(due))


def engine(name: str, engine_version: str) -> Facet:
    return facet("ProcessingEngineRunFacet", name=name, version=engine_version, openlineageAdapterVersion=version())


def error_message(message: str) -> Facet:
    """The errorMessage facet. It has no stack trace: its lines would quote values that are not scrubbed."""
    return facet("ErrorMessageRunFacet", message=message, programmingLanguage="Python")


def tags(source: str, values: Mapping[str, str | None]) -> Facet:
    """The tags facet. Values that are None are left out."""
    found = [{"key": key, "value": value, "source": source} for key, value in values.items() if value is not None]
    return facet("TagsRunFacet", tags=found)


def job_type(kind: str) -> Facet:
    """The jobType facet. ``kind``: FLOW or TASK."""
    return facet("JobTypeJobFacet", processingType="BATCH", integration="CROPLINE", jobType=kind)


def source_location(url: str, commit: str) -> Facet:
    return facet("SourceCodeLocationJobFacet", type="git", url=url, repoUrl=url, version=commit)


def documentation(text: str) -> Facet:
    return facet("DocumentationJobFacet", description=text)


def schema(columns: pa.Schema, described: Mapping[str, Column] | None = None) -> Facet:
    """The columns with their Arrow types, and with what describes them. Structs and lists of structs carry their fields."""
    return facet("SchemaDatasetFacet", fields=_fields(columns, described or {}))


def _fields(columns: Iterable[pa.Field], described: Mapping[str, Column]) -> list[dict[str, Any]]:
    import pyarrow as pa

    found = []
    for position, column in enumerate(columns, 1):
        kind = column.type
        inner = kind.value_type if pa.types.is_list(kind) else kind
        nested = _fields([inner.field(i) for i in range(inner.num_fields)], {}) if pa.types.is_struct(inner) else []
        entry = {"name": column.name, "type": _type_name(kind), "ordinal_position": position}
        if column.name in described:
            entry["description"] = described[column.name].comment
        found.append({**entry, "fields": nested} if nested else entry)
    return found


def _type_name(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    return "struct" if pa.types.is_struct(kind) else str(kind)


def assertions(outcomes: Iterable[Expectation], columns: Sequence[str]) -> Facet:
    """One assertion per expectation. A column is named only when the dataset has it: some rules use derived columns."""
    return facet(
        "DataQualityAssertionsDatasetFacet",
        assertions=[
            {
                "assertion": outcome.name,
                "name": outcome.name,
                "success": outcome.success,
                "severity": _SEVERITIES[outcome.severity],
                "description": outcome.description,
                "expected": "0 unexpected",
                "actual": f"{outcome.unexpected} unexpected of {outcome.evaluated}",
                "params": {"severity": outcome.severity},
            }
            | ({"column": outcome.column} if outcome.column in columns else {})
            for outcome in outcomes
        ],
    )


def quality_metrics(rows: int, columns: Mapping[str, Mapping[str, int | float]], files: int | None = None) -> Facet:
    """The dataQualityMetrics facet. ``columns``: see metrics.py."""
    return facet("DataQualityMetricsInputDatasetFacet", rowCount=rows, fileCount=files, columnMetrics=columns)


def input_statistics(rows: int | None, size: int | None = None, files: int | None = None) -> Facet:
    return facet("InputStatisticsInputDatasetFacet", rowCount=rows, size=size, fileCount=files)


def output_statistics(rows: int | None, size: int | None = None, files: int | None = None) -> Facet:
    return facet("OutputStatisticsOutputDatasetFacet", rowCount=rows, size=size, fileCount=files)


def dataset_version(name: str) -> Facet:
    return facet("DatasetVersionDatasetFacet", datasetVersion=name)


def storage(layer: str, file_format: str) -> Facet:
    return facet("StorageDatasetFacet", storageLayer=layer, fileFormat=file_format)


def lifecycle(change: str) -> Facet:
    """The lifecycleStateChange facet: ALTER, CREATE, DROP, OVERWRITE, RENAME or TRUNCATE."""
    return facet("LifecycleStateChangeDatasetFacet", lifecycleStateChange=change)


def column_lineage(fields: Mapping[str, list[dict[str, Any]]], dataset: list[dict[str, Any]]) -> Facet:
    """``fields``: output column -> input fields. ``dataset``: input fields that decide which rows exist."""
    return facet(
        "ColumnLineageDatasetFacet",
        fields={name: {"inputFields": found} for name, found in fields.items()},
        dataset=dataset,
    )

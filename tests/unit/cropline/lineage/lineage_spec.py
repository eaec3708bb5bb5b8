"""OpenLineage's official JSON Schemas, read from next to the checkout: the oracle for every emitted event."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

SPEC = Path(__file__).parents[5] / "shared" / "openlineage-spec"

needs_spec = pytest.mark.skipif(
    not (SPEC / "OpenLineage.json").is_file(),
    reason="OpenLineage's JSON Schemas are not at ../shared/openlineage-spec beside the checkout: events go unvalidated",
)


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """Return all schemas by their $id."""
    found = [
        json.loads(path.read_text()) for path in [SPEC / "OpenLineage.json", *sorted((SPEC / "facets").glob("*.json"))]
    ]
    return {schema["$id"]: schema for schema in found}


@cache
def _registry() -> Registry[Any]:
    return Registry().with_resources((url, Resource.from_contents(schema)) for url, schema in schemas().items())


def _errors(url: str, value: Any) -> list[str]:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": url}
    validator = Draft202012Validator(schema, registry=_registry(), format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in validator.iter_errors(value)]


def facets_of(event: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return every facet of an event, with its name."""
    groups = [event["run"].get("facets", {}), event["job"].get("facets", {})]
    for dataset in [*event["inputs"], *event["outputs"]]:
        groups += [dataset.get(key, {}) for key in ("facets", "inputFacets", "outputFacets")]
    return [item for group in groups for item in group.items()]


def problems(event: dict[str, Any]) -> list[str]:
    """Return violations of the official schemas by the whole event, and by each facet under its name."""
    found = _errors("https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent", event)
    found += [] if event["schemaURL"].partition("#")[0] in schemas() else [f"unknown schemaURL {event['schemaURL']}"]
    for name, facet in facets_of(event):
        url = facet["_schemaURL"].partition("#")[0]
        if url not in schemas():
            found.append(f"{name}: no official schema {url}")
            continue
        if name not in schemas()[url]["properties"]:
            found.append(f"{name}: {url} describes {list(schemas()[url]['properties'])}")
        found += [f"{name} {error}" for error in _errors(url, {name: facet}) + _errors(facet["_schemaURL"], facet)]
    return found

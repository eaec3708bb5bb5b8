"""OpenLineage's own Python client as an oracle: an event is right when the client's classes can be made of it."""

from __future__ import annotations

import pkgutil
import re
import types
from collections.abc import Iterator
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any, Union, get_args, get_origin, get_type_hints

import attr
from openlineage.client import generated
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

_GROUP = re.compile("(InputDataset|OutputDataset|Dataset|Run|Job)Facet$")
_CALLED = {
    "ProcessingEngineRunFacet": "processing_engine",
    "SQLJobFacet": "sql",
    "DatasourceDatasetFacet": "dataSource",
    "DatasetVersionDatasetFacet": "version",
}
_OWN = ("_producer", "_schemaURL", "_deleted")


def client_problems(event: dict[str, Any]) -> list[str]:
    """Return why the client's classes refuse the event or one of its facets."""
    found = [f"{name}: {error}" for name, facet in _facets(event) for error in _refusals(_facet, name, facet)]
    return found + [f"event: {error}" for error in _refusals(_event, event)]


def _refusals(make: Any, *arguments: Any) -> Iterator[str]:
    try:
        make(*arguments)
    except (TypeError, ValueError, KeyError) as error:
        yield f"{type(error).__name__}: {error}"


def _facets(event: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
        for group in ("facets", "inputFacets", "outputFacets"):
            yield from part.get(group, {}).items()


def _event(event: dict[str, Any]) -> None:
    def bare(part: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in part.items() if not key.lower().endswith("facets")}

    rest = {key: value for key, value in event.items() if key not in ("run", "job", "inputs", "outputs", "schemaURL")}
    made = RunEvent(
        **rest | {"eventType": RunState(event["eventType"])},
        run=Run(**bare(event["run"])),
        job=Job(**bare(event["job"])),
        inputs=[InputDataset(**bare(part)) for part in event["inputs"]],
        outputs=[OutputDataset(**bare(part)) for part in event["outputs"]],
    )
    if event["schemaURL"] != made.schemaURL:
        raise ValueError(f"{event['schemaURL']} is not {made.schemaURL}")


def _facet(name: str, facet: dict[str, Any]) -> None:
    kind = _kinds()[facet["_schemaURL"]]
    called = _CALLED.get(kind.__name__) or _GROUP.sub("", kind.__name__)
    if name != called[0].lower() + called[1:]:
        raise ValueError(f"a {kind.__name__} is called {called}")
    _made(kind, {key: value for key, value in facet.items() if key not in _OWN})


@cache
def _kinds() -> dict[str, type]:
    """Return the client's facets by the address of their schema."""
    found = {}
    for module in pkgutil.iter_modules(generated.__path__):
        for kind in vars(import_module(f"{generated.__name__}.{module.name}")).values():
            if isinstance(kind, type) and attr.has(kind) and kind.__name__.endswith("Facet"):
                found[kind._get_schema()] = kind
    return found


def _made(kind: Any, value: Any) -> Any:
    """Return the value as this type. Raise TypeError or ValueError where it is not one."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value)
    if origin is list:
        return [_made(arguments[0], each) for each in _checked(list, value)]
    if origin is dict:
        return {_made(arguments[0], name): _made(arguments[1], each) for name, each in _checked(dict, value).items()}
    if attr.has(kind):
        hints = get_type_hints(kind)
        return kind(**{name: _made(_hint(kind, hints, name), each) for name, each in _checked(dict, value).items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return _checked((int, float) if kind is float else kind, value)


def _hint(kind: type, hints: dict[str, Any], name: str) -> Any:
    if name not in hints:
        raise TypeError(f"{kind.__name__} has no {name}")
    return hints[name]


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    errors = []
    for kind in kinds:
        try:
            return _made(kind, value)
        except (TypeError, ValueError) as error:
            errors.append(str(error))
    raise TypeError(", ".join(errors))


def _checked(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is no {getattr(kind, '__name__', kind)}")
    return value

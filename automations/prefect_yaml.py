"""Checks prefect.yaml before Prefect reads it: Prefect silently ignores keys that it does not know.

The known keys are those of Prefect's own models.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow
from prefect.cli.deploy._models import (
    ConcurrencyLimitSpec,
    DeploymentConfig,
    PrefectYamlModel,
    RawScheduleConfig,
    WorkPoolConfig,
)
from prefect.workers.process import ProcessJobConfiguration
from pydantic import BaseModel

from cropline.config.places import normal_name
from cropline.core.errors import SettingsError

_POLLING = ("flows.poll:poll", "flows.watch:watch")
# Prefect stores these values in plain text: it would resolve a template of a secret at deploy time.
_SECRETS = ("prefect.blocks.secret", "$CROPLINE_", "_TOKEN", "PASSWORD")


def check(path: Path) -> list[str]:
    """Return one line per mistake in the file; empty when there is none."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        return [f"{path.name}: cannot be read ({str(error).splitlines()[0]})"]
    if not isinstance(loaded, Mapping):
        return [f"{path.name}: no mapping"]
    return [f"{path.name}: {line}" for line in _mistakes(loaded)]


def refuse_mistakes(path: Path) -> None:
    """Raise SettingsError with every mistake."""
    found = check(path)
    if found:
        raise SettingsError("; ".join(found))


def deployments(path: Path) -> list[dict[str, Any]]:
    """Return the deployments of a checked file."""
    entries: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]
    return entries


def is_template(entry: Mapping[str, Any]) -> bool:
    """Whether an entry stands for one deployment of each source: its parameters name ``source``, without a value."""
    parameters = entry.get("parameters") or {}
    return "source" in parameters and parameters["source"] is None


def for_sources(entries: Sequence[dict[str, Any]], sources: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries with each template once for each source: poll-acme, poll-zeta.

    Raise SettingsError for an entry that polls and names no source: each of its runs would fail.
    """
    for entry in entries:
        if entry["entrypoint"] in _POLLING and "source" not in (entry.get("parameters") or {}):
            raise SettingsError(
                f"deployment {entry['name']!r}: there are several sources; add source to its parameters: null for one "
                "deployment of each, or a name"
            )
    return [made for entry in entries for made in (_made(entry, sources) if is_template(entry) else [entry])]


def _made(entry: dict[str, Any], sources: Sequence[str]) -> Iterator[dict[str, Any]]:
    for source in sources:
        name = f"{entry['name']}-{normal_name(source)}"
        tags = [*(entry.get("tags") or ()), f"source:{source}"]
        yield entry | {"name": name, "tags": tags, "parameters": entry["parameters"] | {"source": source}}


def _mistakes(loaded: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown("", loaded, PrefectYamlModel)
    names = [entry.get("name") for entry in loaded.get("deployments") or ()]
    yield from (f"deployment {name!r} is defined twice" for name in sorted({n for n in names if names.count(n) > 1}))
    for entry in loaded.get("deployments") or ():
        where = f"deployment {entry.get('name')!r}"
        yield from _unknown(where, entry, DeploymentConfig)
        yield from _unknown(f"{where}, work_pool", entry.get("work_pool"), WorkPoolConfig)
        yield from _unknown(f"{where}, concurrency_limit", entry.get("concurrency_limit"), ConcurrencyLimitSpec)
        for schedule in entry.get("schedules") or ():
            if not schedule.get("slug"):
                yield f"{where}: a schedule without a slug is duplicated when it changes"
            yield from _unknown(f"{where}, schedule", schedule, RawScheduleConfig)
        variables = (entry.get("work_pool") or {}).get("job_variables")
        yield from _unknown(f"{where}, job_variables", variables, ProcessJobConfiguration)
        yield from _parameters(where, entry)
    yield from _secrets("", loaded)


def _unknown(where: str, value: Any, model: type[BaseModel]) -> Iterator[str]:
    if not isinstance(value, Mapping):
        return
    known = {field.alias or name for name, field in model.model_fields.items()}
    for name in value:
        if name not in known:
            yield f"{where + ': ' if where else ''}unknown key {name!r}; Prefect would ignore it"


def _parameters(where: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield mistakes in the parameters: the entry point must be a flow that takes them."""
    module, _, name = str(entry.get("entrypoint", "")).partition(":")
    if module.endswith(".py"):
        yield f"{where}: entrypoint {module}:{name} is a file; workers run installed code, so it must be module:flow"
        return
    try:
        flow = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        yield f"{where}: entrypoint {entry.get('entrypoint')!r} cannot be loaded ({type(error).__name__})"
        return
    if not isinstance(flow, Flow):
        yield f"{where}: entrypoint {entry.get('entrypoint')!r} is not a flow"
        return
    known = inspect.signature(flow.fn).parameters
    for parameter in entry.get("parameters") or ():
        if parameter not in known:
            yield f"{where}: {name} takes no parameter {parameter!r}"


def _secrets(where: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _secrets(f"{where}.{name}".strip("."), entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _secrets(where, entry)
    elif isinstance(value, str) and any(mark in value for mark in _SECRETS):
        yield f"{where}: looks like a secret; Prefect would store it in plain text. It belongs in the worker's environment"

"""The form that the Prefect UI shows for a flow's parameters, with the titles and help that the flow declares.

Belongs here: the schema. Does not: the flow. Prefect itself takes titles and help of models' fields only; those of a
flow's own parameters it takes from nowhere, and it lets names pass that no parameter has.
"""

from __future__ import annotations

from typing import Any, get_type_hints

from prefect import Flow
from pydantic.fields import FieldInfo


def form_schema(flow: Flow[..., Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that Prefect made for a flow, with what ``Annotated[..., Field(title=, description=)]`` says."""
    hints = get_type_hints(flow.fn, include_extras=True)
    shown = {name: entry | _help(hints.get(name)) for name, entry in schema.get("properties", {}).items()}
    return schema | {"properties": shown, "additionalProperties": False}


def _help(hint: Any) -> dict[str, str]:
    hints: dict[str, str] = {}
    for note in getattr(hint, "__metadata__", ()):
        if isinstance(note, FieldInfo):
            hints |= {name: text for name in ("title", "description") if (text := getattr(note, name))}
    return hints

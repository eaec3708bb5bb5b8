"""Adds the titles and help that a flow declares to its form in the Prefect UI.

Prefect takes titles and help only from fields of models, not from a flow's own parameters. It also accepts
names that no parameter has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_type_hints

from prefect import Flow
from pydantic.fields import FieldInfo


def form_schema(flow: Flow[..., Any], schema: dict[str, Any], sources: Sequence[str] = ()) -> dict[str, Any]:
    """Return Prefect's schema of a flow with the texts of ``Annotated[..., Field(title=, description=)]``.

    ``sources``: the choices of the field source; empty: there is only one source.
    """
    hints = get_type_hints(flow.fn, include_extras=True)
    shown = {name: entry | _help(hints.get(name)) for name, entry in schema.get("properties", {}).items()}
    if sources and "source" in shown:
        kept = {name: value for name, value in shown["source"].items() if name not in ("anyOf", "type")}
        shown["source"] = kept | {"type": "string", "enum": list(sources)}
    return schema | {"properties": shown, "additionalProperties": False}


def _help(hint: Any) -> dict[str, str]:
    hints: dict[str, str] = {}
    for note in getattr(hint, "__metadata__", ()):
        if isinstance(note, FieldInfo):
            hints |= {name: text for name in ("title", "description") if (text := getattr(note, name))}
    return hints

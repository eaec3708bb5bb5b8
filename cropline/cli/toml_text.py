"""Settings as the text of a TOML file, which places.py reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(values: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """Return tables of values. ``notes``: comments by dotted key, each of one line."""
    return "\n".join(_table(values, (), notes)).lstrip("\n") + "\n"


def _table(values: Mapping[str, Any], at: tuple[str, ...], notes: Mapping[str, str]) -> Iterator[str]:
    plain = {name: value for name, value in values.items() if not _is_table(at, name, value)}
    if plain and at:
        yield f"\n[{'.'.join(map(_key, at))}]"
    for name, value in plain.items():
        note = notes.get(".".join((*at, name)))
        yield f"{_key(name)} = {_value(value)}{f'  # {note}' if note else ''}"
    for name, value in values.items():
        if _is_table(at, name, value):
            yield from _table(value, (*at, name), notes)


def _is_table(at: tuple[str, ...], name: str, value: Any) -> bool:
    return isinstance(value, Mapping) and name not in ("body", "params") and "body" not in at


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(name))} = {_value(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        # A TOML string knows the escapes of JSON; DEL must be escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)

"""The types that a custom function's columns may have, as users write them: ``string``, ``double``, ``list<float>``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAMES = {
    "string": "string", "str": "string",
    "int": "int32", "int32": "int32", "long": "int64", "int64": "int64", "bigint": "int64",
    "float": "float", "float32": "float", "double": "double", "float64": "double",
    "bool": "bool", "boolean": "bool",
    "binary": "binary", "bytes": "binary",
    "date": "date", "timestamp": "timestamp", "datetime": "timestamp",
}  # fmt: skip
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True)
class ListOf:
    """A list whose values have one type."""

    of: str | ListOf

    def __str__(self) -> str:
        return f"list<{self.of}>"


def parse_type(text: str) -> str | ListOf:
    """Return the type of a name; lists are ``list<T>`` or ``[T]``. Raise ValueError for an unknown one."""
    text = text.strip()
    inner = re.fullmatch(r"(?:list|array)<(.+)>|\[(.+)\]", text, re.DOTALL | re.IGNORECASE)
    if inner:
        return ListOf(parse_type(inner[1] or inner[2]))
    known = _NAMES.get(text.lower())
    if known is None:
        raise ValueError(
            f"{text[:40]!r} is not a type; choose from {', '.join(dict.fromkeys(_NAMES.values()))} and list<...>"
        )
    return known


def parse_columns(columns: str | Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return (name, type) pairs of ``"mean:double,embedding:list<float>"`` or of a mapping.

    Raise ValueError when invalid.
    """
    if isinstance(columns, str):
        parts = [part for part in _split(columns) if part.strip()]
        if any(":" not in part for part in parts):
            raise ValueError("each column is name:type, separated by commas")
        pairs = [part.split(":", 1) for part in parts]
    else:
        pairs = [[name, kind] for name, kind in columns.items()]
    found = [(name.strip(), str(parse_type(kind))) for name, kind in pairs]
    names = [name for name, _ in found]
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r} cannot be the name of a column")
    if len({name.lower() for name in names}) < len(names):
        raise ValueError("a column is there twice")
    return tuple(found)


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "<[") - (letter in ">]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts

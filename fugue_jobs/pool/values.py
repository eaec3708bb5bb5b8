"""Column types of user functions, and checks of their values. Crop processes load this, so it imports no Arrow."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from cropline.core.column_types import ListOf, parse_type

_WHOLE = {"int32": 31, "int64": 63}


@lru_cache(maxsize=64)
def _parsed(kind: str) -> str | ListOf:
    return parse_type(kind)


def checked(values: Mapping[str, Any], columns: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the values as plain Python of the declared types. Raise TypeError or ValueError with the column."""
    kinds = dict(columns)
    unknown = [name for name in values if name not in kinds]
    if unknown:
        raise TypeError(f"it returns {str(unknown[0])[:40]!r}, which is not declared")
    return {name: _value(values[name], _parsed(kind), name) for name, kind in kinds.items() if name in values}


def _value(value: Any, kind: str | ListOf, name: str) -> Any:
    if isinstance(kind, ListOf):
        if hasattr(value, "tolist") and not isinstance(value, bytes | bytearray | memoryview):
            value = value.tolist()
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise _wrong(value, kind, name)
        return [_value(part, kind.of, name) for part in value]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None:
        return None
    return _scalar(value, kind, name)


def _scalar(value: Any, kind: str, name: str) -> Any:
    if kind == "string" and isinstance(value, str):
        value.encode()  # raises for a lone surrogate
        return str(value)
    if kind == "binary" and isinstance(value, bytes | bytearray):
        return bytes(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind in _WHOLE and isinstance(value, int) and not isinstance(value, bool):
        if not -(2 ** _WHOLE[kind]) <= value < 2 ** _WHOLE[kind]:
            raise ValueError(f"{name}: a whole number that {kind} cannot hold")
        return int(value)
    if kind in ("double", "float") and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind == "timestamp" and isinstance(value, datetime.datetime):
        return value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
    if kind == "date" and isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    raise _wrong(value, kind, name)


def _wrong(value: Any, kind: str | ListOf, name: str) -> TypeError:
    return TypeError(f"{name}: a {type(value).__name__[:40]}, declared is {kind}")

"""Turn values of Python and Parquet into those of JSON, as items hold them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from cropline.intake.json_bytes import left_out

_MAX_DEPTH = 100


def plain(value: Any, depth: int = 0) -> Any:
    """Return the value as JSON's types: times as ISO 8601, decimals as text, arrays as lists.

    A value without such a form becomes the mark of a value that was left out, so its item is quarantined.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > _MAX_DEPTH:
        return left_out(0, "", f"nested more than {_MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {str(name): plain(part, depth + 1) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, depth + 1) for part in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool | int | float):
        return int(value) if isinstance(value, int) else float(value)
    numpy = getattr(value, "tolist", None)  # numpy's numbers and arrays
    if callable(numpy):
        return plain(numpy(), depth + 1)
    return left_out(0, "", f"a value of type {type(value).__name__[:60]}")

"""One crop of an export: its row, its bytes, and the row as JSON values."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cropline.core.keys import CROPS

_NOT_TOLD = ("shard", "offset", "reason", "detail")


class Crop(NamedTuple):
    """A row of the catalogue and its crop's bytes. The bytes are empty when the format does not need them."""

    row: dict[str, Any]
    data: bytes

    @property
    def values(self) -> dict[str, Any]:
        """The row without the columns that only say where cropline keeps the crop. NaN and infinite are None."""
        return {name: _number(value) for name, value in self.row.items() if is_told(name)}

    @property
    def facts(self) -> dict[str, Any]:
        """``values`` as JSON values: times in ISO 8601, bytes in Base64, decimals as text."""
        return json_values(self.values)

    @property
    def no_numbers(self) -> int:
        """The number of facts that are null because they were NaN or infinite."""
        return sum(_no_numbers(value) for name, value in self.row.items() if is_told(name))

    @property
    def file_name(self) -> str:
        """A name that is unique among all profiles and safe on every file system."""
        return str(self.row["key"]).removeprefix(f"{CROPS}/")


Write = Callable[[Crop], bool]
"""Writes a crop. Returns False when it is left out."""


def is_told(column: str) -> bool:
    """Return whether exports have this column of the catalogue."""
    return column not in _NOT_TOLD


def json_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON values: times in ISO 8601, bytes in Base64, decimals as text, NaN and infinite as null."""
    return {name: _json(_number(value)) for name, value in row.items()}


def json_text(value: Any) -> str:
    """Return strict JSON. Raise ValueError for NaN and Infinity."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def save(path: Path, data: bytes) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _number(value: Any) -> Any:
    return None if _is_no_number(value) else value


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_json(_number(one)) for one in value]
    if isinstance(value, dict):
        return {name: _json(_number(one)) for name, one in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _no_numbers(value: Any) -> int:
    return sum(map(_no_numbers, value)) if isinstance(value, list) else int(_is_no_number(value))


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)

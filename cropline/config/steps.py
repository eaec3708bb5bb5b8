"""A profile's steps: custom functions that run on every crop."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from cropline.config.group import Group
from cropline.config.named_function import STEPS, find_named
from cropline.core.column_types import parse_columns


class Step(Group):
    """One function. ``use`` is module:name, or the name of an entry point of the group cropline.steps."""

    use: str = Field(description="module:name, or the name of an entry point of the group cropline.steps")
    version: str = Field(
        "", max_length=100, description="version of the function; empty is a hash of its module's source"
    )
    batch: int = Field(0, ge=0, le=10_000, description="a class: crops per call; 0 is 32")
    timeout_s: float = Field(30, gt=0, le=3_600, description="time limit of one call")
    memory_mb: int = Field(4_096, ge=64, description="memory limit of a crop process while the function runs")
    columns: dict[str, str] = Field({}, description="columns that it returns besides an image: name and type")

    @model_validator(mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"use": value}
        if not isinstance(value, dict) or not isinstance(value.get("use"), str):
            return value
        return value if value.get("version") else value | {"version": identity(value["use"])}

    @field_validator("columns")
    @classmethod
    def _are_columns(cls, value: dict[str, str]) -> dict[str, str]:
        return dict(parse_columns(value))

    @property
    def work(self) -> dict[str, Any]:
        """The values that make it other work when they change."""
        return {"use": self.use, "version": self.version, "columns": self.columns}


@lru_cache(maxsize=256)
def identity(use: str) -> str:
    """Return the version of a function that declares none: a hash of its module's source and its package's version.

    It covers neither the module's imports nor models and other files that the function reads. It runs no code. Raise
    ValueError when the module cannot be found.
    """
    if use.startswith("function:"):
        raise ValueError("a function needs its version")
    target, package = find_named(use, STEPS)
    module = target.partition(":")[0]
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise ValueError(f"{use}: no module {module} is installed here; install it, or set its version")
    return hashlib.sha256(package.encode() + Path(spec.origin).read_bytes()).hexdigest()[:16]

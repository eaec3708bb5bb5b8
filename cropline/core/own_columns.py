"""Columns that users add to the rows of crops: values that steps return, and columns of their own scripts.

In the catalogue they follow cropline's columns. A row that has no value for one has null.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cropline.core.column_types import NAME, ListOf, parse_type
from cropline.core.columns import CATALOGUE_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa


class OwnColumn(NamedTuple):
    """A catalogue column that steps fill. ``returned``: (profile, the name that its step uses)."""

    name: str
    kind: str  # see column_types
    returned: tuple[tuple[str, str], ...]


def name_in_catalogue(profile: str, name: str) -> str:
    """Return the catalogue's name of a step's column: ``<profile>_<name>`` when cropline has a column of that name.

    Names that differ only in case are equal: Spark and DuckDB ignore case.
    """
    return f"{profile.replace('-', '_')}_{name}" if name.lower() in CATALOGUE_COLUMNS else name


def step_columns(steps: Iterable[tuple[str, Mapping[str, str]]]) -> tuple[OwnColumn, ...]:
    """Return the catalogue columns of steps, each given as its profile and the columns that it returns.

    Raise ValueError for a name that one of cropline's columns has, and for a name with two types.
    """
    kinds: dict[str, tuple[str, str]] = {}  # lower-case name -> name and type
    returned: dict[str, dict[tuple[str, str], None]] = {}
    for profile, columns in steps:
        for name, kind in columns.items():
            column = name_in_catalogue(profile, name)
            if column.lower() in CATALOGUE_COLUMNS or not NAME.fullmatch(column):
                raise ValueError(f"{profile}: the catalogue cannot have the column {name!r} of a step; rename it")
            known = kinds.setdefault(column.lower(), (column, kind))
            if known != (column, kind):
                raise ValueError(
                    f"{profile}: a step returns {column} as {kind}, another {' as '.join(known)}; rename one"
                )
            returned.setdefault(column, {})[profile, name] = None
    return tuple(OwnColumn(name, kinds[name.lower()][1], tuple(pairs)) for name, pairs in returned.items())


def claimed_columns(claimed: pa.Table) -> tuple[OwnColumn, ...]:
    """Return the columns of the steps in claimed recipes (schemas.CLAIM). Raise ValueError as step_columns does."""
    import pyarrow.compute as pc

    work = pc.list_flatten(claimed["work"])
    found = set(zip(*(pc.struct_field(work, name).to_pylist() for name in ("profile", "recipe")), strict=True))
    return step_columns((profile, columns) for profile, recipe in sorted(found) for columns in _returned(recipe))


def _returned(recipe: str) -> list[dict[str, str]]:
    try:
        return [step.get("columns", {}) for step in json.loads(recipe).get("steps", ())]
    except (ValueError, AttributeError):
        return []  # another version's recipe: its crops fail with recipe_unreadable


def arrow_type(kind: str) -> pa.DataType:
    """Return the Arrow type of a column type (see column_types)."""
    return _arrow(parse_type(kind), in_job=False)


def job_type(kind: str) -> pa.DataType:
    """Return the type that values have in the job's frames: times and dates are ISO 8601 text, as engines disagree."""
    return _arrow(parse_type(kind), in_job=True)


def _arrow(kind: str | ListOf, *, in_job: bool) -> pa.DataType:
    import pyarrow as pa

    if isinstance(kind, ListOf):
        return pa.list_(_arrow(kind.of, in_job=in_job))
    if in_job and kind in ("date", "timestamp"):
        return pa.string()
    types: dict[str, pa.DataType] = {
        "string": pa.string(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float": pa.float32(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "binary": pa.binary(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", "UTC"),
    }
    return types[kind]


def job_value(value: Any) -> Any:
    """Return a step's value for the job's frames: see job_type."""
    if isinstance(value, list):
        return [job_value(part) for part in value]
    if not hasattr(value, "isoformat"):
        return value
    if hasattr(value, "astimezone"):
        from datetime import UTC

        value = value.astimezone(UTC)
    return value.isoformat()


def stored_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type that the catalogue stores for a script's column; None when it cannot store it.

    Times are UTC with microseconds; a time without a zone is taken as UTC.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC")
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_unsigned_integer(kind):
        return None if kind.bit_width == 64 else {8: pa.int16(), 16: pa.int32(), 32: pa.int64()}[kind.bit_width]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_list_view(kind):
        of = stored_type(kind.value_type)
        return None if of is None else pa.list_(of)
    same = pa.types.is_signed_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal128(kind)
    return kind if same or kind in (pa.float32(), pa.float64()) else None


def own_columns(rows: pa.Table, ours: pa.Schema) -> list[str]:
    """Return the names of the columns that are not cropline's, in order."""
    return [name for name in rows.column_names if name not in ours.names]

"""The job's FugueSQL script, built in or the user's. dry_run.py runs it before it may fetch anything.

Contract of a user's script (docs/scaling.md): it gets the frames ``images``, ``claimed``, ``stores`` and those of
CROPLINE_ENGINE__FRAMES, and the transformer ``crop_images``. ``{{ partitions }}`` is the planned number of parts and
``{{ crops_schema }}`` the schema that crop_images returns. It must pass every claimed image to
crop_images once, and yield one frame ``crops`` with exactly the rows of crop_images and at least its columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import pyarrow as pa

from cropline.core.column_types import NAME
from cropline.core.columns import CATALOGUE_COLUMNS
from cropline.core.errors import EngineError
from cropline.core.own_columns import OwnColumn, arrow_type, stored_type
from cropline.core.schemas import CROPS

# FugueSQL's comments.
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


@cache
def own_script() -> str:
    """Return the built-in script."""
    return files("fugue_jobs").joinpath("crop_images.fsql").read_text(encoding="utf-8")


def read_script(path: str | None) -> str:
    """Return the script at ``path``, or the built-in one. Raise EngineError when it cannot be read, or says nothing."""
    if path is None:
        return own_script()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"the script {path} cannot be read: {type(error).__name__}") from None
    if not _COMMENTS.sub("", text).strip():
        raise EngineError(
            f"the script {path} is empty: write one as in docs/scaling.md, or unset CROPLINE_ENGINE__SCRIPT"
        )
    return text


def check_columns(crops: pa.Schema, columns: Sequence[OwnColumn], known: pa.Schema | None) -> None:
    """Raise EngineError for a column of a step or a script that the catalogue cannot store.

    known: the catalogue's columns. A column keeps its type for ever.
    """
    of_steps = {column.name: arrow_type(column.kind) for column in columns}
    in_catalogue = {field.name.lower(): field for field in known or ()}
    seen = {name.lower() for name in CATALOGUE_COLUMNS}
    for field in crops:
        if field.name in CROPS.names:
            continue
        kind = of_steps.get(field.name) or stored_type(field.type)
        there = in_catalogue.get(field.name.lower())
        if not NAME.fullmatch(field.name):
            raise EngineError(f"the script's column {field.name[:40]!r}: a name has letters, digits and _; rename it")
        if field.name.lower() in seen:
            raise EngineError(f"the script's column {field.name}: the catalogue has one of that name; rename it")
        if kind is None:
            raise EngineError(f"the script's column {field.name} is {field.type}, which the catalogue cannot store")
        if there is not None and (there.name, there.type) != (field.name, kind):
            raise EngineError(
                f"column {field.name} is {kind}, but the catalogue has {there.name} as {there.type}; rename it"
            )
        seen.add(field.name.lower())

"""The job's FugueSQL script, built in or the user's. It gets a dry run before it may fetch anything.

Contract of a user's script (docs/scaling.md): it gets the frames ``images``, ``claimed``, ``stores`` and those of
CROPLINE_ENGINE__FRAMES, and the transformer ``crop_images``. ``{{ partitions }}`` is the planned number of parts and
``{{ crops_schema }}`` the schema that crop_images returns. It must pass every claimed image to
crop_images once, and yield one frame ``crops`` with exactly the rows of crop_images and at least its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cropline.core.column_types import NAME
from cropline.core.columns import CATALOGUE_COLUMNS
from cropline.core.errors import EngineError
from cropline.core.own_columns import OwnColumn, arrow_type, stored_type
from cropline.core.schemas import CROPS, IMAGES
from fugue_jobs.rows import crops_schema

if TYPE_CHECKING:
    from collections import Counter

_KEY = ("manifest", "manifest_row", "box_index", "profile")


@cache
def own_script() -> str:
    """Return the built-in script."""
    return files("fugue_jobs").joinpath("crop_images.fsql").read_text(encoding="utf-8")


def read_script(path: str | None) -> str:
    """Return the script at ``path``, or the built-in one. Raise EngineError when it cannot be read."""
    if path is None:
        return own_script()
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"the script {path} cannot be read: {type(error).__name__}") from None


def dry_run(
    run: Callable[[Any], pa.Table],
    counts: pa.Table,
    claimed: pa.Table,
    columns: Sequence[OwnColumn] = (),
    known: pa.Schema | None = None,
) -> None:
    """Run the script on the batch with a transformer that fetches nothing, and compare its rows with the claims.

    run: returns the script's crops for a transformer. counts: manifests.COUNTS. columns, known: see
    check_columns. Raise EngineError with the broken rule.
    """
    try:
        crops = run(stub_transformer(crops_schema(columns)))
    except EngineError:
        raise
    except Exception as error:  # a user's script may raise anything that Fugue, SQL or an engine can
        raise EngineError(f"the script does not run: {type(error).__name__}: {_line(error)}") from error
    missing = [name for name in crops_schema(columns).names if name not in crops.column_names]
    if missing:
        raise EngineError(
            f"the script's crops lack the columns {', '.join(missing)}: crop_images returns them, so write "
            "SCHEMA {{ crops_schema }} instead of your own list, and select all of its columns"
        )
    try:
        rows = crops.select(list(_KEY)).cast(pa.schema([CROPS.field(name) for name in _KEY]))
    except pa.ArrowInvalid:
        raise EngineError("the script's crops have other column types than crop_images returned") from None
    _compare(_expected(counts, claimed), _counter(tuple(row.values()) for row in rows.to_pylist()))
    check_columns(crops.schema, columns, known)


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


def _compare(expected: Counter[Any], found: Counter[Any]) -> None:
    lost, extra = expected - found, found - expected
    if lost:
        raise EngineError(f"the script loses {lost.total()} of {expected.total()} boxes, for example {min(lost)}")
    if extra:
        raise EngineError(f"the script returns {extra.total()} rows too many, for example {min(extra)}")


def stub_transformer(schema: pa.Schema) -> Callable[[Iterable[pa.Table]], Iterable[pa.Table]]:
    """Return a replacement of crop_images that yields a row per box and profile, and fetches nothing.

    It raises EngineError for missing columns.
    """

    def transform(tables: Iterable[pa.Table]) -> Iterable[pa.Table]:
        for table in tables:
            missing = [name for name in IMAGES.names if name not in table.column_names]
            if missing:
                raise EngineError(f"the script does not pass crop_images the columns {', '.join(missing)}")
            for batch in table.select(["manifest", "manifest_row", "boxes", "work"]).to_batches(max_chunksize=256):
                rows = [row for image in batch.to_pylist() for row in _rows(image)]
                yield pa.Table.from_pylist(rows, schema=schema)
        yield schema.empty_table()

    return transform


def _rows(image: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for work in image["work"] or ():
        # DuckDB quotes some names of nested fields.
        named = {name.strip('"'): value for name, value in work.items()}
        for index in _wanted(named["only"], len(image["boxes"] or ())):
            yield {
                "manifest": image["manifest"],
                "manifest_row": image["manifest_row"],
                "box_index": index,
                "profile": named["profile"],
                "status": "failed",
            }


def _expected(counts: pa.Table, claimed: pa.Table) -> Counter[Any]:
    boxes = {(row["manifest"], row["manifest_row"]): row["boxes"] for row in counts.to_pylist()}
    return _counter(
        (row["manifest"], row["manifest_row"], index, work["profile"])
        for row in claimed.select(["manifest", "manifest_row", "work"]).to_pylist()
        for work in row["work"]
        for index in _wanted(work["only"], boxes[row["manifest"], row["manifest_row"]])
    )


def _wanted(only: Sequence[int] | None, boxes: int) -> Iterable[int]:
    """Positions of the boxes to cut, see schemas.WORK."""
    return range(boxes) if only is None else sorted(only)


def _counter(keys: Iterable[Any]) -> Counter[Any]:
    from collections import Counter

    return Counter(keys)


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:200]

"""The job's FugueSQL script, built in or the user's. It gets a dry run before it may fetch anything.

Contract of a user's script (docs/scaling.md): it gets the frames ``images``, ``claimed`` and ``stores``
and the transformer ``crop_images``. ``{{ partitions }}`` is the planned number of parts and
``{{ crops_schema }}`` the schema that crop_images returns. It must pass every claimed image to
crop_images once, and yield one frame ``crops`` with exactly the rows and columns of crop_images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cropline.core.errors import EngineError
from cropline.core.schemas import CROPS, IMAGES, fugue_expression

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


def crops_schema() -> str:
    """Return CROPS in FugueSQL's notation."""
    return fugue_expression(CROPS)


def dry_run(run: Callable[[Any], pa.Table], counts: pa.Table, claimed: pa.Table) -> None:
    """Run the script on the batch with a transformer that fetches nothing, and compare its rows with the claims.

    run: returns the script's crops for a transformer. counts: manifests.COUNTS. Raise EngineError with
    the broken rule.
    """
    try:
        crops = run(stub_transformer)
    except EngineError:
        raise
    except Exception as error:  # a user's script may raise anything that Fugue, SQL or an engine can
        raise EngineError(f"the script does not run: {type(error).__name__}: {_line(error)}") from error
    missing = [name for name in CROPS.names if name not in crops.column_names]
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


def _compare(expected: Counter[Any], found: Counter[Any]) -> None:
    lost, extra = expected - found, found - expected
    if lost:
        raise EngineError(f"the script loses {lost.total()} of {expected.total()} boxes, for example {min(lost)}")
    if extra:
        raise EngineError(f"the script returns {extra.total()} rows too many, for example {min(extra)}")


def stub_transformer(tables: Iterable[pa.Table]) -> Iterable[pa.Table]:
    """Replace crop_images: yield a row per box and profile, fetch nothing. Raise EngineError for missing columns."""
    for table in tables:
        missing = [name for name in IMAGES.names if name not in table.column_names]
        if missing:
            raise EngineError(f"the script does not pass crop_images the columns {', '.join(missing)}")
        for batch in table.select(["manifest", "manifest_row", "boxes", "work"]).to_batches(max_chunksize=256):
            rows = [row for image in batch.to_pylist() for row in _rows(image)]
            yield pa.Table.from_pylist(rows, schema=CROPS)
    yield CROPS.empty_table()


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

"""Find rows that are no longer current, as far back as the log and the files are kept.

The predicate of a superseding commit names its images, and the version before it has the rows that it removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from cropline.catalogue import delta
from cropline.catalogue.files import Snapshot
from cropline.catalogue.log import DELETE, STEP
from cropline.catalogue.positions import row_of_crop, rows_of_image
from cropline.core.errors import StorageError
from cropline.core.keys import CROPS, safe_name
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

_LITERAL = re.compile(r"'((?:[^']|'')*)'")


@dataclass(frozen=True)
class PastRows:
    """Rows (CATALOGUE) until table version ``superseded_in``; None: they are current."""

    rows: pa.Table
    superseded_in: int | None


def of_image(spec: StoreSpec, table: DeltaTable, source: str, image_id: str) -> Iterator[PastRows]:
    """Yield the image's rows before each commit that superseded it, newest first. Empty states are left out."""
    for version, names in _superseding(table):
        if image_id in names:
            rows = at(spec, version - 1, lambda then: rows_of_image(then, source, image_id))
            if rows is None:
                return
            if len(rows):
                yield PastRows(rows, version)


def of_crop(spec: StoreSpec, table: DeltaTable, key: str) -> PastRows | None:
    """Return the row of a superseded crop, or None when no readable version has it."""
    if not key.startswith(f"{CROPS}/"):
        return None  # such as a photo's id: the whole log need not be read
    folders = set(key.split("/"))
    for version, names in _superseding(table):
        if any(safe_name(name) in folders for name in names):
            rows = at(spec, version - 1, lambda then: row_of_crop(then, key))
            if rows is None:
                return None
            if len(rows):
                return PastRows(rows, version)
    return None


def _superseding(table: DeltaTable) -> Iterator[tuple[int, set[str]]]:
    """Yield the superseding commits, newest first, each with all texts in its predicate."""
    for entry in table.history():
        predicate = entry.get("operationParameters", {}).get("predicate")
        if entry.get("operation") == "WRITE" and predicate and entry.get(STEP) != DELETE:
            yield entry["version"], {text.replace("''", "'") for text in _LITERAL.findall(predicate)}


def at(spec: StoreSpec, version: int, look: Callable[[Snapshot], pa.Table]) -> pa.Table | None:
    """Return rows of a version; None when maintenance has removed its files or its log."""
    from deltalake.exceptions import DeltaError

    try:
        table = delta.open_table(spec, version=version)
        return look(Snapshot(spec, table)) if table is not None else None
    except (DeltaError, pa.ArrowException, OSError, StorageError) as error:
        if _is_missing(error):
            return None
        raise


def _is_missing(error: BaseException) -> bool:
    """Return whether the error says that a file, or an entry of the log, is no longer there."""
    missing = isinstance(error, FileNotFoundError) or "not found" in str(error).lower()
    return missing or (error.__cause__ is not None and _is_missing(error.__cause__))

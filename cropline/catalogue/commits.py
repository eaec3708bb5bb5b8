"""The parts of a batch's commit: its app transaction, the current rows of its work items, and the write."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue import delta
from cropline.catalogue.log import DELETE, STEP
from cropline.catalogue.rows import CATALOGUE, ImageProfile, find, joined, replacing, scan_images

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable


def transaction(table: DeltaTable, batch_id: str, attempt: int = 2) -> int | None:
    """Return the app transaction of a batch (see table.py); None when the table does not know the batch.

    App transactions are kept for 90 days. A batch that is resumed (``attempt`` > 1) later than that is found
    by its rows; 0 means a commit that can no longer be looked up.
    """
    known: int | None = table.transaction_version(batch_id)
    if known is None and attempt > 1 and len(find(table, batch_id=batch_id)):
        return 0
    return known


def properties(batch_id: str, transaction: int, attempt: int, rows: int) -> CommitProperties:
    """Return the properties of a batch's commit: its app transaction and the entries in the log."""
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        app_transactions=[Transaction(batch_id, transaction, int(time.time() * 1000))],
        custom_metadata={"cropline.batch": batch_id, "cropline.attempt": attempt, "cropline.rows": rows},
        # The superseded rows were read from this version: delta-rs must not rebase the commit onto another.
        max_commit_retries=0,
    )


def step(name: str) -> CommitProperties:
    """Return the properties of a maintenance commit of cropline, which adds no new crops."""
    from deltalake import CommitProperties

    return CommitProperties(custom_metadata={STEP: name}, max_commit_retries=0)


def failing(rows: pa.Table, works: Collection[ImageProfile]) -> set[ImageProfile]:
    """Return the work items with a failed box."""
    return works_of(rows.filter(pc.field("status") == "failed")) & set(works) if works else set()


def works_of(rows: pa.Table) -> set[ImageProfile]:
    """Return the work items of these rows."""
    return set(_in_order(rows))


def current(table: DeltaTable, works: Collection[ImageProfile]) -> pa.Table:
    """Return the rows (CATALOGUE) of some work items in this version of the table."""
    images: dict[str, set[str]] = {}
    for source, image_id, _ in works:
        images.setdefault(source, set()).add(image_id)
    parts = [scan_images(table, source, ids) for source, ids in sorted(images.items())]
    rows = joined(parts)
    wanted = set(works)
    return rows.filter(pa.array([work in wanted for work in _in_order(rows)], pa.bool_()))


def _in_order(rows: pa.Table) -> Iterator[ImageProfile]:
    return zip(*(rows[name].to_pylist() for name in ("source", "image_id", "profile")), strict=True)


def put(
    table: DeltaTable,
    rows: pa.Table,
    properties: CommitProperties,
    batch_id: str,
    superseding: Collection[ImageProfile],
) -> None:
    """Replace all rows of the superseded work items by a batch's rows (CATALOGUE), in one commit.

    Columns of users that the table lacks are added before, in a commit that changes no row.
    """
    from deltalake import write_deltalake

    delta.add_columns(table, rows.schema)
    for field in delta.columns(table):
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    if superseding:
        where = replacing(batch_id, superseding)
        delta.on_deep_stack(
            lambda: write_deltalake(table, rows, mode="overwrite", predicate=where, commit_properties=properties),
            len(superseding),
        )
    elif len(rows):
        write_deltalake(table, rows, mode="append", commit_properties=properties)
    else:
        table.create_write_transaction([], "append", CATALOGUE, commit_properties=properties)


def delete(table: DeltaTable, predicate: str) -> None:
    """Delete the rows that match, in one commit.

    delta-rs' own ``delete`` rewrites files with view types (string_view), which some readers refuse.
    """
    from deltalake import write_deltalake

    nothing = delta.columns(table).empty_table()
    write_deltalake(table, nothing, mode="overwrite", predicate=predicate, commit_properties=step(DELETE))

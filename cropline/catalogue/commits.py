"""The parts of a commit: what the table knows of a batch, what stands there of its works, and the one write that replaces it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue import delta
from cropline.catalogue.log import STEP
from cropline.catalogue.rows import CATALOGUE, ImageProfile, find, replacing, scan_images

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable


def transaction(table: DeltaTable, batch_id: str, attempt: int = 2) -> int | None:
    """What the table knows of a batch, see table.py; None: it never heard of it.

    App transactions are kept for 90 days. A batch that is taken up again (``attempt`` > 1) later than that is known by its
    rows; 0 stands for a commit that nobody can look up any more.
    """
    known: int | None = table.transaction_version(batch_id)
    if known is None and attempt > 1 and len(find(table, batch_id=batch_id)):
        return 0
    return known


def properties(batch_id: str, transaction: int, attempt: int, rows: int) -> CommitProperties:
    """Of a commit of a batch: its app transaction, and what the log says of it."""
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        app_transactions=[Transaction(batch_id, transaction, int(time.time() * 1000))],
        custom_metadata={"cropline.batch": batch_id, "cropline.attempt": attempt, "cropline.rows": rows},
        # What the batch supersedes was looked up in this very version: delta-rs must not put the commit behind another.
        max_commit_retries=0,
    )


def step(name: str) -> CommitProperties:
    """Of a commit of our own that brings no new crops."""
    from deltalake import CommitProperties

    return CommitProperties(custom_metadata={STEP: name}, max_commit_retries=0)


def failing(rows: pa.Table, works: Collection[ImageProfile]) -> set[ImageProfile]:
    """Those of the works of which a box failed."""
    return works_of(rows.filter(pc.field("status") == "failed")) & set(works) if works else set()


def works_of(rows: pa.Table) -> set[ImageProfile]:
    """The works that have rows here."""
    return set(_in_order(rows))


def current(table: DeltaTable, works: Collection[ImageProfile]) -> pa.Table:
    """The rows (CATALOGUE) that this version of the table has of some works."""
    images: dict[str, set[str]] = {}
    for source, image_id, _ in works:
        images.setdefault(source, set()).add(image_id)
    parts = [scan_images(table, source, ids) for source, ids in sorted(images.items())]
    rows = pa.concat_tables([CATALOGUE.empty_table(), *parts])
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
    """Put a batch's rows (CATALOGUE) in the place of all rows of the superseded works, in one commit."""
    from deltalake import write_deltalake

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

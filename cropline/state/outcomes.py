"""Outcomes of a batch as Arrow columns: an object for each work item costs a commit of thousands too much time.

all_done   Return the outcomes of a batch in which every work item is done.
as_table   Return outcomes as a table.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from cropline.state.model import Batch, Outcome

OUTCOMES = pa.schema(
    [
        ("source", pa.string()),
        ("image_id", pa.string()),
        ("profile", pa.string()),
        ("fingerprint", pa.string()),
        ("ok", pa.bool_()),
        ("transient_reason", pa.string()),
        ("permanent_reason", pa.string()),
        ("retry_after_s", pa.int64()),
    ]
)  # the fields of model.Outcome


def all_done(batch: Batch) -> pa.Table:
    """Return OUTCOMES: each work item of the batch is done, and no box failed."""
    items = batch.work_columns()
    told = [pa.repeat(pa.scalar(True), items.num_rows)]
    told += [pa.nulls(items.num_rows, field.type) for field in list(OUTCOMES)[5:]]
    return pa.Table.from_arrays([*items.columns, *told], schema=OUTCOMES)


def as_table(outcomes: pa.Table | Iterable[Outcome]) -> pa.Table:
    """Return OUTCOMES. Reads the outcomes once."""
    if isinstance(outcomes, pa.Table):
        return outcomes.select(OUTCOMES.names).cast(OUTCOMES)
    columns = list(zip(*outcomes, strict=True)) or [()] * len(OUTCOMES)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, OUTCOMES, strict=True)], schema=OUTCOMES
    )

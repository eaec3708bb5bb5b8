"""Descriptions in the table itself: a comment on each column, and which columns have statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cropline.catalogue.rows import STATISTICS
from cropline.core.columns import CATALOGUE_COLUMNS

if TYPE_CHECKING:
    from deltalake import DeltaTable

STATISTICS_PROPERTY = "delta.dataSkippingStatsColumns"


def describe(table: DeltaTable) -> None:
    """Bring a table of an earlier version up to date. Each difference is a small commit, which changes no row.

    New files have statistics of the new columns; older files get them when they are rewritten.
    """
    statistics = ",".join(STATISTICS)
    if table.metadata().configuration.get(STATISTICS_PROPERTY) != statistics:
        table.alter.set_table_properties({STATISTICS_PROPERTY: statistics})
    for field in table.schema().fields:
        column = CATALOGUE_COLUMNS.get(field.name)
        if column is not None and field.metadata.get("comment") != column.comment:
            table.alter.set_column_metadata(field.name, {**field.metadata, "comment": column.comment})

"""Convert the crop job's rows to the catalogue's schema; predicates and look-ups over its columns.

CATALOGUE is CROPS with ``captured_at`` as a UTC timestamp, plus the commit of the row, plus RECROP: the result of the
last attempt to cut a good crop again (failed_recrops.py). core/columns.py explains the columns. Columns of users follow
(core/own_columns.py): "rows (CATALOGUE)" may have them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from cropline.core.errors import CatalogueError
from cropline.core.own_columns import own_columns, stored_type
from cropline.core.schemas import CROPS, UTC

if TYPE_CHECKING:
    from deltalake import DeltaTable

ImageProfile = tuple[str, str, str]
"""source, image_id, profile: the unit that is cropped and superseded."""

PARTITION = "captured_date"

CATALOGUE = pa.schema(
    [
        *(field.with_type(UTC) if field.name == "captured_at" else field for field in CROPS),
        pa.field("batch_id", pa.string()),  # the last batch that processed this box
        pa.field("attempt", pa.int64()),
        pa.field("flow_run", pa.string()),
        pa.field("committed_at", UTC),
        pa.field(PARTITION, pa.date32()),
        # The row is of a good crop; a later attempt to cut it again failed for this reason.
        pa.field("recrop_reason", pa.string()),  # a code of failures.py; null when the last attempt succeeded
        pa.field("recrop_detail", pa.string()),
        pa.field("recrop_failed_at", UTC),
    ]
)
RECROP = ("recrop_reason", "recrop_detail", "recrop_failed_at")

# Columns with minimum and maximum per file, by which readers skip files. Long texts that no filter uses have none.
STATISTICS = (
    "batch_id",
    "source",
    "image_id",
    "profile",
    "key",
    "shard",
    "captured_at",
    "store_id",
    "camera_id",
    "status",
    "committed_at",
)
ORDER = [(name, "ascending") for name in ("source", "image_id", "profile", "box_index")]


def to_catalogue(crops: pa.Table, *, batch_id: str, attempt: int, flow_run: str, committed_at: datetime) -> pa.Table:
    """Return CROPS rows as CATALOGUE rows, ordered by image, so that a reader of one image skips most of a file.

    Other columns of the rows follow.

    Raise CatalogueError when columns are missing or of another type, a capture time is not ISO 8601 with an
    offset, or a row lacks its source, image or profile: such a row could never be superseded.
    """
    import pyarrow.compute as pc

    try:
        rows = crops.select(CROPS.names).cast(CROPS)
        captured = rows["captured_at"].cast(UTC)
        rows = rows.set_column(rows.schema.get_field_index("captured_at"), "captured_at", captured)
        constants = (batch_id, attempt, flow_run, committed_at)
        names = CATALOGUE.names[len(CROPS.names) :]
        for name, value in zip(names, constants, strict=False):
            rows = rows.append_column(name, pa.array([value], CATALOGUE.field(name).type).take(_zeros(len(rows))))
        rows = rows.append_column(PARTITION, pc.cast(captured, pa.date32()))
        for name in RECROP:
            rows = rows.append_column(name, pa.nulls(len(rows), CATALOGUE.field(name).type))
        rows = rows.cast(CATALOGUE)
        for name in own_columns(crops, CROPS):
            kind = stored_type(crops.schema.field(name).type)
            if kind is None:
                raise CatalogueError(
                    f"column {name} is {crops.schema.field(name).type}, which the catalogue cannot store"
                )
            rows = rows.append_column(name, crops[name].cast(kind))
    except (pa.ArrowException, KeyError) as error:
        raise CatalogueError(f"crops of batch {batch_id} do not fit the catalogue: {error}") from error
    for name in ("source", "image_id", "profile", "box_index"):
        if rows[name].null_count:
            raise CatalogueError(f"crops of batch {batch_id}: {rows[name].null_count} rows have no {name}")
    return rows.sort_by(ORDER)


def _zeros(count: int) -> pa.Array:
    return pa.repeat(pa.scalar(0, pa.int64()), count)


def naming(works: Collection[ImageProfile]) -> str:
    """Return the SQL predicate of the rows of these work items. A commit that replaces them tells it in the log."""
    groups: dict[tuple[str, str], list[str]] = {}
    for source, image_id, profile in works:
        groups.setdefault((source, profile), []).append(image_id)
    return " OR ".join(
        f"({equalling(source=source, profile=profile)} AND {among('image_id', images)})"
        for (source, profile), images in sorted(groups.items())
    )


def equalling(**columns: str) -> str:
    """Return the SQL predicate of the rows whose columns equal these texts."""
    return " AND ".join(f"{name} = {quoted(value)}" for name, value in columns.items())


def among(column: str, values: Collection[str]) -> str:
    """Return the SQL predicate of the rows whose column is one of these texts."""
    return f"{column} IN ({', '.join(quoted(value) for value in sorted(set(values)))})"


def captured_before(source: str, moment: datetime) -> str:
    """Return the SQL predicate of a source's rows whose photos were captured before a time."""
    return f"source = {quoted(source)} AND captured_at < {_moment(moment)}"


def of_stores(source: str, stores: Collection[str]) -> str:
    """Return the SQL predicate of a source's rows of these stores."""
    return f"{equalling(source=source)} AND {among('store_id', stores)}"


def _moment(moment: datetime) -> str:
    return f"arrow_cast({round(moment.timestamp() * 1_000_000)}, 'Timestamp(Microsecond, Some(\"UTC\"))')"


def quoted(text: str) -> str:
    """Return a SQL string literal.

    The grammar has no escape but the doubled quote; a test checks it with hostile ids.
    """
    return "'" + text.replace("'", "''") + "'"


def scan(table: DeltaTable, predicate: str | None, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows (CATALOGUE, or some of its columns) that match a predicate.

    delta-rs' own engine reads only pages that may hold matches, and leaves out dead rows.
    """
    schema = columns_of(table)
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    known = {field.name for field in table.schema().fields}  # an earlier version may have created the table
    found = pa.table(table.scan(columns=[name for name in schema.names if name in known], predicate=predicate))
    return in_schema(found, schema)


def streamed(table: DeltaTable, predicate: str, column: str) -> Iterator[pa.Array]:
    """Yield one column of the rows (CATALOGUE) that match a predicate, in parts. Memory does not grow with the rows."""
    for batch in pa.RecordBatchReader.from_stream(table.scan(columns=[column], predicate=predicate)):
        yield batch.column(0).cast(CATALOGUE.field(column).type)


def columns_of(table: DeltaTable) -> pa.Schema:
    """Return CATALOGUE, then the table's columns of users."""
    return with_own(pa.schema(table.schema().to_arrow()))


def with_own(schema: pa.Schema) -> pa.Schema:
    """Return CATALOGUE, then the other columns of a schema in the types that own_columns.stored_type gives them."""
    own = (field for field in schema if field.name not in CATALOGUE.names)
    return pa.schema([*CATALOGUE, *(pa.field(field.name, stored_type(field.type) or field.type) for field in own)])


def in_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the rows with these columns. Files of earlier versions lack some, and have other kinds of text."""
    held = set(rows.column_names)
    for field in schema:
        if field.name not in held:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    rows = rows.select(schema.names)
    return rows if rows.schema.equals(schema, check_metadata=True) else rows.cast(schema)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables (CATALOGUE); null for a column of users that a table lacks."""
    return pa.concat_tables([CATALOGUE.empty_table(), *tables], promote_options="default")

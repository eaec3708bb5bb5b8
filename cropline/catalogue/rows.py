"""Convert the crop job's rows to the catalogue's schema; predicates and look-ups over its columns.

CATALOGUE is CROPS with ``captured_at`` as a UTC timestamp, plus the commit of the row, plus RECROP: the result of the
last attempt to cut a good crop again (failed_recrops.py). core/columns.py explains the columns. Columns of users follow
(core/own_columns.py): "rows (CATALOGUE)" may have them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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

_IMAGES_A_SCAN = 5_000
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
            rows = rows.append_column(crops.schema.field(name), crops[name])
    except (pa.ArrowException, KeyError) as error:
        raise CatalogueError(f"crops of batch {batch_id} do not fit the catalogue: {error}") from error
    for name in ("source", "image_id", "profile", "box_index"):
        if rows[name].null_count:
            raise CatalogueError(f"crops of batch {batch_id}: {rows[name].null_count} rows have no {name}")
    return rows.sort_by(ORDER)


def _zeros(count: int) -> pa.Array:
    return pa.repeat(pa.scalar(0, pa.int64()), count)


def replacing(batch_id: str, superseding: Collection[ImageProfile]) -> str:
    """Return the SQL predicate of the rows that a batch replaces: the old rows of its images, and its own.

    Its own rows do not exist yet, but a replacing write only accepts rows that match its predicate.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for source, image_id, profile in superseding:
        groups.setdefault((source, profile), []).append(image_id)
    clauses = [
        f"({equalling(source=source, profile=profile)} AND {among('image_id', images)})"
        for (source, profile), images in sorted(groups.items())
    ]
    return " OR ".join([f"batch_id = {_quoted(batch_id)}", *clauses])


def equalling(**columns: str) -> str:
    """Return the SQL predicate of the rows whose columns equal these texts."""
    return " AND ".join(f"{name} = {_quoted(value)}" for name, value in columns.items())


def among(column: str, values: Collection[str]) -> str:
    """Return the SQL predicate of the rows whose column is one of these texts."""
    return f"{column} IN ({', '.join(_quoted(value) for value in sorted(set(values)))})"


def committed_before(profile: str, moment: datetime) -> str:
    """Return the SQL predicate of a profile's rows that were committed before a time."""
    return f"profile = {_quoted(profile)} AND committed_at < {_moment(moment)}"


def captured_before(source: str, moment: datetime) -> str:
    """Return the SQL predicate of a source's rows whose photos were captured before a time."""
    return f"source = {_quoted(source)} AND captured_at < {_moment(moment)}"


def of_stores(source: str, stores: Collection[str]) -> str:
    """Return the SQL predicate of a source's rows of these stores."""
    return f"{equalling(source=source)} AND {among('store_id', stores)}"


def _moment(moment: datetime) -> str:
    return f"arrow_cast({round(moment.timestamp() * 1_000_000)}, 'Timestamp(Microsecond, Some(\"UTC\"))')"


def of_images(source: str, image_ids: Collection[str]) -> str:
    """Return the SQL predicate of the rows of these images."""
    return f"{equalling(source=source)} AND {among('image_id', image_ids)}"


def _quoted(text: str) -> str:
    """Return a SQL string literal.

    The grammar has no escape but the doubled quote; a test checks it with hostile ids.
    """
    return "'" + text.replace("'", "''") + "'"


def find(table: DeltaTable, **equal: str) -> pa.Table:
    """Return the rows (CATALOGUE) whose columns equal the given texts."""
    return scan(table, equalling(**equal))


def scan(table: DeltaTable, predicate: str) -> pa.Table:
    """Return the rows (CATALOGUE) that match a predicate. delta-rs' own engine reads only pages that may hold matches.

    pyarrow reads all columns of whole row groups: for 40 of 1,000,000 rows it took 1.8 s instead of 0.04 s.
    """
    found = pa.table(table.scan(predicate=predicate))
    for name in set(CATALOGUE.names) - set(found.column_names):  # an earlier version created the table
        found = found.append_column(name, pa.nulls(len(found), CATALOGUE.field(name).type))
    return found.select([*CATALOGUE.names, *own_columns(found, CATALOGUE)]).cast(with_own(found.schema))


def with_own(schema: pa.Schema) -> pa.Schema:
    """Return CATALOGUE, then the other columns of a schema in the types that own_columns.stored_type gives them."""
    own = (field for field in schema if field.name not in CATALOGUE.names)
    return pa.schema([*CATALOGUE, *(pa.field(field.name, stored_type(field.type) or field.type) for field in own)])


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables (CATALOGUE); null for a column of users that a table lacks."""
    return pa.concat_tables([CATALOGUE.empty_table(), *tables], promote_options="default")


def scan_images(table: DeltaTable, source: str, image_ids: Collection[str]) -> pa.Table:
    """Return the rows (CATALOGUE) of these images, in parts: delta-rs dies (SIGSEGV) of 37,000 ids at once."""
    wanted = sorted(set(image_ids))
    parts = [wanted[start : start + _IMAGES_A_SCAN] for start in range(0, len(wanted), _IMAGES_A_SCAN)]
    return joined([scan(table, of_images(source, part)) for part in parts])

"""Candidates: the Arrow schema of registrations, and their staging. register.py decides what a candidate does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, case, func, select

from cropline.core.keys import digest
from cropline.state.rows import stage, storable
from cropline.state.tables import AnyText, UtcTime

_UTC = pa.timestamp("us", tz="UTC")

CANDIDATES = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("profile", pa.string(), nullable=False),
        pa.field("profile_hash", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("manifest", pa.string(), nullable=False),  # storage key
        pa.field("manifest_row", pa.int64(), nullable=False),
        pa.field("boxes", pa.int64(), nullable=False),
        ("bytes", pa.int64()),
        ("captured_at", _UTC),
        ("updated_at", _UTC),  # an older version never replaces a newer one
        ("store_id", pa.string()),
        ("camera_id", pa.string()),
        pa.field("state", pa.string(), nullable=False),  # pending | quarantined
        ("reason", pa.string()),  # the broken expectations; null when pending
        ("metadata", pa.string()),  # keys.metadata_hash; null: unknown, changes nothing
    ]
)

# A row of a PostgreSQL index holds at most 2,704 bytes. A longer id cannot be processed, but it is not lost.
_LONGEST_ID = 1_024
_TOO_LONG = "image_id_too_long"
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)

staged = Table(
    "staged_candidates",
    MetaData(),
    *(
        Column(
            field.name,
            AnyText if pa.types.is_string(field.type) else UtcTime if field.type == _UTC else BigInteger,
        )
        for field in CANDIDATES
    ),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)


def best(connection: Connection) -> Any:
    """Return the best staged candidate per work item, in the order of the key: a good one before a bad one, then the newest.

    All are of one source, so nothing is sorted by it: comparing it again and again would cost more than the rest.
    """
    key = (staged.c.image_id, staged.c.profile)
    first = (
        case((staged.c.state == "pending", 0), else_=1),
        staged.c.updated_at.desc().nulls_last(),
        staged.c.manifest_row.desc(),
    )
    if connection.dialect.name == "postgresql":
        # DISTINCT ON: a window costs much more for partitions of one row.
        return select(staged).distinct(*key).order_by(*key, *first).subquery()
    place = func.row_number().over(partition_by=key, order_by=first)
    ranked = select(staged, place.label("place")).subquery()
    return select(ranked).where(ranked.c.place == 1).subquery()


class Staging:
    """A temporary table of candidates, within one transaction."""

    def __init__(self, connection: Connection, source: str) -> None:
        self._connection = connection
        self._source = source
        self.rows = 0
        self.quarantined = 0

    def fill(self, rows: pa.Table | Iterable[pa.Table]) -> None:
        """Read all candidates once, a table at a time. Raise ValueError when they are not CANDIDATES of this source."""
        staged.create(self._connection, checkfirst=False)
        tables = (self._checked(table) for table in ([rows] if isinstance(rows, pa.Table) else rows))
        stage(self._connection, staged, tables)

    def drop(self) -> None:
        """Drop the table, for the next registration on this connection."""
        staged.drop(self._connection)

    def _checked(self, table: pa.Table) -> pa.Table:
        table = table.select(CANDIDATES.names).cast(CANDIDATES)
        if not pc.all(pc.equal(table["source"], self._source), min_count=0).as_py():
            raise ValueError(f"a registration of {self._source} holds candidates of another source")
        if not pc.all(pc.is_in(table["state"], pa.array(["pending", "quarantined"])), min_count=0).as_py():
            raise ValueError("a candidate is pending or quarantined")
        table = _without_long_ids(storable(self._connection, _with_times_inside(table)))
        self.rows += table.num_rows
        self.quarantined += pc.sum(pc.equal(table["state"], "quarantined")).as_py() or 0
        return table


def _with_times_inside(table: pa.Table) -> pa.Table:
    """Make times null that a database or Python's datetime refuses."""
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if field.type == _UTC:
            inside = pc.and_(pc.greater(column, pa.scalar(_EARLIEST, _UTC)), pc.less(column, pa.scalar(_LATEST, _UTC)))
            table = table.set_column(index, field, pc.if_else(inside, column, pa.scalar(None, _UTC)))
    return table


def _without_long_ids(table: pa.Table) -> pa.Table:
    """Quarantine ids that are too long for an index, under a shortened name that stays unique."""
    long = pc.greater(pc.binary_length(table["image_id"]), _LONGEST_ID)
    if not pc.any(long).as_py():
        return table
    rows = table.to_pylist()
    for row in rows:
        if len(row["image_id"].encode()) > _LONGEST_ID:
            name = row["image_id"].encode()[: _LONGEST_ID // 2].decode(errors="ignore")
            reasons = [row["reason"]] if row["reason"] else []
            row.update(
                image_id=f"{name}~{digest(row['image_id'])}",
                state="quarantined",
                reason=",".join([*reasons, _TOO_LONG]),
            )
    return pa.Table.from_pylist(rows, schema=table.schema)

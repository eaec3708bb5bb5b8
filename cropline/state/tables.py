"""The tables for SQLAlchemy, and two column types that return the same values from both databases.

migrations.py creates the tables; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Text, bindparam
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import DateTime, TypeDecorator, TypeEngine

# PostgreSQL cannot store NUL in text, and ids come from outside. So NUL and this character are each escaped by two
# characters. It is private-use: ordinary ids do not contain it, and one that does stays unique.
ESCAPE = "\U000f0000"
ESCAPES = ((ESCAPE, ESCAPE + "1"), ("\x00", ESCAPE + "0"))


class AnyText(TypeDecorator[str]):
    """Text with any characters, NUL too, that is read back unchanged."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # Byte order, as on SQLite: these are identities, not prose. It also sorts several times faster.
        return dialect.type_descriptor(Text(collation="C") if dialect.name == "postgresql" else Text())

    # Plain processors, and none on SQLite: a large claim pays for each of its values.
    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None] | None:
        """Escape on PostgreSQL."""
        return _escaped if dialect.name == "postgresql" else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], str | None] | None:  # noqa: ARG002
        """Undo the escape."""
        return _unescaped if dialect.name == "postgresql" else None


def _escaped(value: str | None) -> str | None:
    if value is not None:
        for plain, stored in ESCAPES:
            value = value.replace(plain, stored)
    return value


def _unescaped(value: str | None) -> str | None:
    if value is not None and ESCAPE in value:
        for plain, stored in reversed(ESCAPES):
            value = value.replace(stored, plain)
    return value


class UtcTime(TypeDecorator[datetime]):
    """A time. timestamptz on PostgreSQL; on SQLite ISO 8601 text of fixed width, which sorts by time."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=True) if dialect.name == "postgresql" else String())

    # Plain processors: a large claim or registration pays for each of its values.
    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any]:
        """Store UTC."""
        return _utc if dialect.name == "postgresql" else _utc_text

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:  # noqa: ARG002
        """Return a time in UTC."""
        return _utc_of_driver if dialect.name == "postgresql" else _utc_of_text


def _utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")
    return value.astimezone(UTC)


def _utc_text(value: datetime | None) -> str | None:
    utc = _utc(value)
    return None if utc is None else utc.isoformat(timespec="microseconds")


def _utc_of_driver(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _utc_of_text(value: str | None) -> datetime | None:
    if value is None:
        return None
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def constant(value: str) -> BindParameter[str]:
    """Return a literal for the statement text, so that a plan can use the partial index that names it.

    Never pass a value from outside.
    """
    return bindparam(None, value, String(), unique=True, literal_execute=True)


metadata = MetaData()

schema_version = Table(
    "cropline_schema",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("applied_at", UtcTime, nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("source", AnyText, primary_key=True),
    Column("image_id", AnyText, primary_key=True),
    Column("profile", AnyText, primary_key=True),
    Column("state", AnyText, nullable=False),
    Column("since", UtcTime, nullable=False),  # when it entered this state
    Column("reason", AnyText),
    Column("attempts", Integer, nullable=False),  # consecutive transient failures of this fingerprint
    Column("retry_at", UtcTime),
    # Wanted: the newest good version that was registered.
    Column("profile_hash", AnyText, nullable=False),
    Column("version", AnyText, nullable=False),
    Column("fingerprint", AnyText, nullable=False),
    Column("manifest", AnyText, nullable=False),
    Column("manifest_row", BigInteger, nullable=False),
    Column("boxes", BigInteger, nullable=False),
    Column("bytes", BigInteger),
    Column("captured_at", UtcTime),
    Column("updated_at", UtcTime),
    Column("store_id", AnyText),
    Column("camera_id", AnyText),
    Column("metadata", AnyText),  # its keys.metadata_hash; null in rows of versions that had none
    Column("rows_only", Integer),  # 1: its crops exist, only its rows must be written again; else null
    Column("first_seen", UtcTime, nullable=False),
    Column("changed_at", UtcTime),  # null until the first registration is replaced
    # Claimed: the values that a batch holds, whatever is registered meanwhile; see held.py.
    Column("batch_id", AnyText),  # stays after the commit: the last batch that held it
    Column("claimed_hash", AnyText),
    Column("claimed_fingerprint", AnyText),
    Column("claimed_manifest", AnyText),
    Column("claimed_row", BigInteger),
    Column("claimed_boxes", BigInteger),
    Column("claimed_metadata", AnyText),
    Column("claimed_rows_only", Integer),
    Column("committed_batch", AnyText),  # the last batch that committed it to the catalogue
)

# Counts kept by triggers, so that counting ten million items costs nothing. A count may be spread over several rows.
tallies = Table(
    "tallies",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("source", AnyText, nullable=False),
    Column("state", AnyText, nullable=False),
    Column("works", BigInteger, nullable=False),
)

profiles = Table(
    "profiles",
    metadata,
    Column("name", AnyText, primary_key=True),
    Column("hash", AnyText, primary_key=True),
    Column("recipe", AnyText, nullable=False),
    Column("first_seen", UtcTime, nullable=False),
)

sources = Table(
    "sources",
    metadata,
    Column("source", AnyText, primary_key=True),
    Column("cursor", AnyText),
    Column("registered_at", UtcTime),
    Column("eraser", AnyText),
    Column("erasing_until", UtcTime),
    Column("api", AnyText),  # the address of its image API; null until a run names one
    Column("quiet_until", UtcTime),  # the API asked for no request before
    Column("list_after", AnyText),  # a bucket whose keys sort by time: all keys up to this one were read
    Column("moved_out", BigInteger, nullable=False, server_default="0"),  # photos that are in that table
    Column("moved_before", UtcTime),  # since when the youngest of them was done
    Column("moves", BigInteger, nullable=False, server_default="0"),  # transactions that moved photos out
)

# Photos that left the table of images: the catalogue has their work items.
moved_out = Table(
    "moved_out",
    metadata,
    Column("photo", BigInteger, primary_key=True, autoincrement=False),  # moved_out.photo_hash
    Column("updated_at", UtcTime),
    Column("batch_id", AnyText),  # that committed all of its rows; null: several did
)

# One row: what this database is bound to, and what it knows of the catalogue there.
binding = Table(
    "binding",
    metadata,
    Column("one", Integer, primary_key=True),
    Column("storage", AnyText),  # null before the first run
    Column("catalogue_version", BigInteger),  # every commit up to this version was checked
    Column("unknown_batches", Integer, nullable=False),  # 1: some of them were of batches that are unknown here
    Column("duplicates_checked", Integer, nullable=False),  # 1: no duplicated item since the last unknown batch
)

manifests = Table(
    "manifests",
    metadata,
    Column("manifest", AnyText, primary_key=True),
    Column("source", AnyText, nullable=False),
    Column("registered_at", UtcTime, nullable=False),
    Column("new", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("known", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
    Column("corrected", BigInteger, nullable=False),
)

recent_items = Table(
    "recent_items",
    metadata,
    Column("source", AnyText, primary_key=True),
    Column("digest", AnyText, primary_key=True),
    Column("updated_at", UtcTime, nullable=False),
    Column("url", AnyText),  # keys.digest of the last announced address; null: it has no query
    Column("image_id", AnyText),  # null: unknown, or the item is one box of several
)

# Files whose items were registered. A source lists them, and reads those that are not here in this version.
read_files = Table(
    "read_files",
    metadata,
    Column("source", AnyText, primary_key=True),
    Column("name", AnyText, primary_key=True),
    Column("version", AnyText, nullable=False),
    Column("read_at", UtcTime, nullable=False),
)

# Images that their source deleted and whose crops are kept.
deleted_images = Table(
    "deleted_images",
    metadata,
    Column("source", AnyText, primary_key=True),
    Column("image_id", AnyText, primary_key=True),
    Column("deleted_at", UtcTime, nullable=False),  # when a poll read it
)

batches = Table(
    "batches",
    metadata,
    Column("batch_id", AnyText, primary_key=True),
    Column("source", AnyText, nullable=False),
    Column("state", AnyText, nullable=False),  # open | committed
    Column("attempt", Integer, nullable=False),
    Column("owner", AnyText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("lease_until", UtcTime, nullable=False),
    Column("committed_at", UtcTime),
    Column("images", BigInteger, nullable=False),
    Column("works", BigInteger, nullable=False),
    Column("boxes", BigInteger),
    Column("written", BigInteger),
    Column("failed", BigInteger),
    Column("skipped", BigInteger),
    Column("catalogue_version", BigInteger),
    Column("note", AnyText),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, primary_key=True),  # the order of publishing
    Column("event_id", AnyText, nullable=False),
    Column("payload", AnyText, nullable=False),
    Column("enqueued_at", UtcTime, nullable=False),
    Column("published_at", UtcTime),
    Column("attempts", Integer, nullable=False),
    Column("last_error", AnyText),
    Column("arrived", AnyText),  # the transports of a composite that have it, separated by commas
)

runs = Table(
    "runs",
    metadata,
    Column("flow_run", AnyText, primary_key=True),
    Column("start", AnyText, nullable=False),  # its START event, JSON, from which an end can be made
    Column("alive_until", UtcTime, nullable=False),
)

# The last end of the runs of each flow and deployment, for monitoring.
flow_ends = Table(
    "flow_ends",
    metadata,
    Column("flow", AnyText, primary_key=True),
    Column("deployment", AnyText, primary_key=True),  # empty: a run without a deployment
    Column("status", AnyText, nullable=False),  # COMPLETE | FAIL | ABORT
    Column("ended_at", UtcTime, nullable=False),
    Column("completed_at", UtcTime),  # the last end as COMPLETE
)

backfills = Table(
    "backfills",
    metadata,
    Column("backfill_id", AnyText, primary_key=True),  # hash of the selection
    Column("selection", AnyText, nullable=False),  # JSON, for people
    Column("began_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
)

backlog_samples = Table(
    "backlog_samples",
    metadata,
    Column("at", UtcTime, primary_key=True),
    Column("pending", BigInteger, nullable=False),
    Column("claimed", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("dead", BigInteger, nullable=False),
    Column("oldest_pending_since", UtcTime),
)

erasures = Table(
    "erasures",
    metadata,
    Column("erasure_id", AnyText, primary_key=True),
    Column("source", AnyText, nullable=False),
    Column("selection", AnyText, nullable=False),  # JSON, for people and as the key
    Column("began_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
)

# Images that are never registered again.
tombstones = Table(
    "tombstones",
    metadata,
    Column("source", AnyText, primary_key=True),
    Column("image_id", AnyText, primary_key=True),
    Column("erasure_id", AnyText, nullable=False),  # the last one that named it
    Column("since", UtcTime, nullable=False),
    Column("erased_at", UtcTime),  # when no crop of it was left
)

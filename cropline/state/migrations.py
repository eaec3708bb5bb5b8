"""The schema's history, applied under a lock. tables.py has the tables for queries.

Add a migration at the end of MIGRATIONS (its number is its position, from 1); never edit one that was released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, inspect, select

from cropline.core.errors import SchemaTooNew
from cropline.state.database import Database
from cropline.state.tables import schema_version

# The same number in every process: "cropline" as bytes.
_ADVISORY_LOCK = int.from_bytes(b"cropline", "big", signed=True)

_TYPES = {
    "postgresql": {
        "text": 'TEXT COLLATE "C"',
        "time": "TIMESTAMPTZ",
        "newest": "DESC NULLS LAST",
        "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    },
    "sqlite": {
        "text": "TEXT",
        "time": "TEXT",
        "newest": "DESC",  # SQLite puts nulls last in this order
        "serial": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
    },
}


@dataclass(frozen=True)
class Migration:
    """Statements for every database, then those of a single dialect."""

    everywhere: Sequence[str]
    postgresql: Sequence[str] = ()
    sqlite: Sequence[str] = ()

    def statements(self, dialect: str) -> list[str]:
        """Return the DDL for a dialect, in order."""
        common = [statement.format(**_TYPES[dialect]) for statement in self.everywhere]
        return [*common, *(self.postgresql if dialect == "postgresql" else self.sqlite)]


_TABLES = (
    """
    CREATE TABLE images (
        source {text} NOT NULL, image_id {text} NOT NULL, profile {text} NOT NULL,
        state {text} NOT NULL
            CHECK (state IN ('pending', 'claimed', 'done', 'failed', 'dead', 'quarantined')),
        since {time} NOT NULL, reason {text}, attempts INTEGER NOT NULL, retry_at {time},
        profile_hash {text} NOT NULL, version {text} NOT NULL, fingerprint {text} NOT NULL,
        manifest {text} NOT NULL, manifest_row BIGINT NOT NULL, boxes BIGINT NOT NULL, bytes BIGINT,
        captured_at {time}, updated_at {time}, store_id {text}, camera_id {text},
        first_seen {time} NOT NULL, changed_at {time},
        batch_id {text}, claimed_hash {text}, claimed_fingerprint {text}, claimed_manifest {text},
        claimed_row BIGINT, claimed_boxes BIGINT, committed_batch {text},
        PRIMARY KEY (source, image_id, profile),
        CHECK (state <> 'claimed' OR (batch_id IS NOT NULL AND claimed_fingerprint IS NOT NULL)),
        CHECK (state <> 'failed' OR retry_at IS NOT NULL)
    )
    """,
    # Partial indexes: none contains finished items, which are nearly all.
    "CREATE INDEX images_pending ON images (source, captured_at {newest}) WHERE state = 'pending'",
    "CREATE INDEX images_waiting ON images (since) WHERE state = 'pending'",
    "CREATE INDEX images_retry ON images (source, retry_at) WHERE state = 'failed'",
    "CREATE INDEX images_claimed ON images (batch_id) WHERE state = 'claimed'",
    "CREATE INDEX images_reasons ON images (state, reason) WHERE state IN ('failed', 'dead', 'quarantined')",
    """
    CREATE TABLE tallies (id {serial}, source {text} NOT NULL, state {text} NOT NULL, works BIGINT NOT NULL)
    """,
    """
    CREATE TABLE profiles (
        name {text} NOT NULL, hash {text} NOT NULL, recipe {text} NOT NULL, first_seen {time} NOT NULL,
        PRIMARY KEY (name, hash)
    )
    """,
    "CREATE TABLE sources (source {text} NOT NULL PRIMARY KEY, cursor {text}, registered_at {time})",
    """
    CREATE TABLE manifests (
        manifest {text} NOT NULL PRIMARY KEY, source {text} NOT NULL, registered_at {time} NOT NULL,
        new BIGINT NOT NULL, changed BIGINT NOT NULL, known BIGINT NOT NULL, quarantined BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE recent_items (
        source {text} NOT NULL, digest {text} NOT NULL, updated_at {time} NOT NULL,
        PRIMARY KEY (source, digest)
    )
    """,
    "CREATE INDEX recent_items_age ON recent_items (source, updated_at)",
    """
    CREATE TABLE batches (
        batch_id {text} NOT NULL PRIMARY KEY, source {text} NOT NULL,
        state {text} NOT NULL CHECK (state IN ('open', 'committed')),
        attempt INTEGER NOT NULL, owner {text} NOT NULL, created_at {time} NOT NULL, lease_until {time} NOT NULL,
        committed_at {time}, images BIGINT NOT NULL, works BIGINT NOT NULL,
        boxes BIGINT, written BIGINT, failed BIGINT, skipped BIGINT, catalogue_version BIGINT, note {text}
    )
    """,
    "CREATE INDEX batches_open ON batches (lease_until) WHERE state = 'open'",
    "CREATE INDEX batches_created ON batches (created_at)",
    "CREATE INDEX batches_source ON batches (source, created_at)",
    """
    CREATE TABLE outbox (
        id {serial}, event_id {text} NOT NULL UNIQUE, payload {text} NOT NULL, enqueued_at {time} NOT NULL,
        published_at {time}, attempts INTEGER NOT NULL, last_error {text}
    )
    """,
    "CREATE INDEX outbox_pending ON outbox (attempts, id) WHERE published_at IS NULL",
    "CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL",
)

# One row per statement, source and state. Updating a shared row would make all writers wait. commit folds the rows.
_TALLY_FUNCTION = """
    CREATE FUNCTION cropline_tally() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO tallies (source, state, works) SELECT source, state, count(*) FROM fresh GROUP BY 1, 2;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO tallies (source, state, works) SELECT source, state, -count(*) FROM stale GROUP BY 1, 2;
        ELSE
            INSERT INTO tallies (source, state, works)
            SELECT source, state, sum(works) FROM (
                SELECT source, state, count(*) AS works FROM fresh GROUP BY 1, 2
                UNION ALL
                SELECT source, state, -count(*) FROM stale GROUP BY 1, 2
            ) AS change GROUP BY 1, 2 HAVING sum(works) <> 0;
        END IF;
        RETURN NULL;
    END $$
"""


def _tally_trigger(operation: str, tables: str) -> str:
    return (
        f"CREATE TRIGGER images_{operation.lower()} AFTER {operation} ON images"
        f" REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION cropline_tally()"
    )


_FRESH, _STALE = "NEW TABLE AS fresh", "OLD TABLE AS stale"
_COUNT_UP = "INSERT INTO tallies (source, state, works) VALUES (NEW.source, NEW.state, 1) ON CONFLICT (source, state) DO UPDATE SET works = works + 1;"
_COUNT_DOWN = "UPDATE tallies SET works = works - 1 WHERE source = OLD.source AND state = OLD.state;"

MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        _TABLES,
        postgresql=(
            _TALLY_FUNCTION,
            _tally_trigger("INSERT", _FRESH),
            _tally_trigger("DELETE", _STALE),
            _tally_trigger("UPDATE", f"{_STALE} {_FRESH}"),
            # A queue changes far more rows than a fifth of the table, so vacuum by the thousand.
            "ALTER TABLE images SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.02)",
            "ALTER TABLE tallies SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)",
        ),
        sqlite=(
            "CREATE UNIQUE INDEX tallies_key ON tallies (source, state)",
            f"CREATE TRIGGER images_insert AFTER INSERT ON images BEGIN {_COUNT_UP} END",
            f"CREATE TRIGGER images_delete AFTER DELETE ON images BEGIN {_COUNT_DOWN} END",
            "CREATE TRIGGER images_update AFTER UPDATE OF state ON images WHEN OLD.state <> NEW.state"
            f" BEGIN {_COUNT_DOWN} {_COUNT_UP} END",
        ),
    ),
    # Backfills that continue after a kill; the backlog of the last days.
    Migration(
        (
            """
            CREATE TABLE backfills (
                backfill_id {text} NOT NULL PRIMARY KEY, selection {text} NOT NULL,
                began_at {time} NOT NULL, ended_at {time}
            )
            """,
            """
            CREATE TABLE backlog_samples (
                at {time} NOT NULL PRIMARY KEY, pending BIGINT NOT NULL, claimed BIGINT NOT NULL,
                failed BIGINT NOT NULL, dead BIGINT NOT NULL, oldest_pending_since {time}
            )
            """,
        ),
    ),
    # Erased images that must not come back, and the erasures.
    Migration(
        (
            """
            CREATE TABLE erasures (
                erasure_id {text} NOT NULL PRIMARY KEY, source {text} NOT NULL, selection {text} NOT NULL,
                began_at {time} NOT NULL, ended_at {time}
            )
            """,
            "CREATE INDEX erasures_open ON erasures (source) WHERE ended_at IS NULL",
            """
            CREATE TABLE tombstones (
                source {text} NOT NULL, image_id {text} NOT NULL, erasure_id {text} NOT NULL,
                since {time} NOT NULL, erased_at {time}, PRIMARY KEY (source, image_id)
            )
            """,
            "CREATE INDEX tombstones_open ON tombstones (erasure_id) WHERE erased_at IS NULL",
        ),
    ),
    # Active flow runs: a killed one is found by its expired lease. Events that reached some of their transports.
    Migration(
        (
            """
            CREATE TABLE runs (
                flow_run {text} NOT NULL PRIMARY KEY, start {text} NOT NULL, alive_until {time} NOT NULL
            )
            """,
            "ALTER TABLE outbox ADD COLUMN arrived {text}",
        ),
    ),
    # The lock of erasures per source: two at once could move each other's photos into new packs.
    Migration(("ALTER TABLE sources ADD COLUMN eraser {text}", "ALTER TABLE sources ADD COLUMN erasing_until {time}")),
    # The binding of the database and the part of the catalogue that it knows. Done items with permanently failed boxes.
    Migration(
        (
            "ALTER TABLE sources ADD COLUMN api {text}",
            """
            CREATE TABLE binding (
                one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1), storage {text}, catalogue_version BIGINT,
                unknown_batches INTEGER NOT NULL, duplicates_checked INTEGER NOT NULL
            )
            """,
            "INSERT INTO binding SELECT 1, NULL, max(catalogue_version), 0, 0 FROM batches",
            "CREATE INDEX images_ended ON images (reason) WHERE state = 'done' AND reason IS NOT NULL",
        ),
    ),
    # Corrected metadata, which rewrites rows and cuts nothing; the last announced address of an item.
    Migration(
        (
            "ALTER TABLE images ADD COLUMN metadata {text}",
            "ALTER TABLE images ADD COLUMN rows_only INTEGER",
            "ALTER TABLE images ADD COLUMN claimed_metadata {text}",
            "ALTER TABLE images ADD COLUMN claimed_rows_only INTEGER",
            "ALTER TABLE recent_items ADD COLUMN url {text}",
            "ALTER TABLE recent_items ADD COLUMN image_id {text}",
            "CREATE INDEX recent_items_image ON recent_items (source, image_id)",
            "ALTER TABLE manifests ADD COLUMN corrected BIGINT NOT NULL DEFAULT 0",
        ),
    ),
    # The time until which an API asked for no requests.
    Migration(("ALTER TABLE sources ADD COLUMN quiet_until {time}",)),
    # The last end of each deployment's runs.
    Migration(
        (
            """
            CREATE TABLE flow_ends (
                flow {text} NOT NULL, deployment {text} NOT NULL, status {text} NOT NULL,
                ended_at {time} NOT NULL, completed_at {time}, PRIMARY KEY (flow, deployment)
            )
            """,
        ),
    ),
    # The files that a source of files has read, and the key after which it lists.
    Migration(
        (
            """
            CREATE TABLE read_files (
                source {text} NOT NULL, name {text} NOT NULL, version {text} NOT NULL, read_at {time} NOT NULL,
                PRIMARY KEY (source, name)
            )
            """,
            "ALTER TABLE sources ADD COLUMN list_after {text}",
        ),
    ),
    # Photos that their source deleted and whose crops are kept.
    Migration(
        (
            """
            CREATE TABLE deleted_images (
                source {text} NOT NULL, image_id {text} NOT NULL, deleted_at {time} NOT NULL,
                PRIMARY KEY (source, image_id)
            )
            """,
        ),
    ),
    # Photos that ended long ago and left the table of work items.
    Migration(
        (
            """
            CREATE TABLE moved_out (
                photo BIGINT NOT NULL PRIMARY KEY, updated_at {time}, batch_id {text}
            )
            """,
            "ALTER TABLE sources ADD COLUMN moved_out BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE sources ADD COLUMN moved_before {time}",
            "ALTER TABLE sources ADD COLUMN moves BIGINT NOT NULL DEFAULT 0",
        ),
    ),
    # Claims leave the claimed_ columns null (held.py). An older version, which would read them, must not open this.
    Migration(()),
)


def migrate(database: Database) -> None:
    """Bring the schema to this version, once, also when many processes start together.

    Raise SchemaTooNew when a newer cropline migrated it, StateError when the database cannot be used.
    """
    with database.reading() as connection:
        if version_of(connection) == len(MIGRATIONS):
            return
    with database.atomic() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        version = version_of(connection)
        if version > len(MIGRATIONS):
            raise SchemaTooNew(
                f"the state database has schema {version} of a newer cropline; this one knows {len(MIGRATIONS)}"
            )
        _apply(database, connection, version)


def _apply(database: Database, connection: Connection, version: int) -> None:
    for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in migration.statements(connection.dialect.name):
            connection.exec_driver_sql(statement)
        if number == 1:
            schema_version.create(connection)
        connection.execute(insert(schema_version).values(version=number, applied_at=database.now(connection)))


def version_of(connection: Connection) -> int:
    """Return the version of the schema; 0 for an empty database."""
    if not inspect(connection).has_table(schema_version.name):
        return 0
    return connection.execute(select(func.max(schema_version.c.version))).scalar() or 0

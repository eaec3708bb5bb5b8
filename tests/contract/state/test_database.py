"""The database: opening, migration, errors in one line, and reconnection."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, inspect

from cropline.config.state import StateSettings
from cropline.core.errors import SchemaTooNew, StaleLease, StateError
from cropline.state import State
from cropline.state.tables import metadata
from tests.contract.state.build import RECIPES, Clock, Look, candidate, counts, ids, outcomes, registration
from tests.contract.state.processes import open_and_register, run_together
from tests.contract.state.servers import Postgres


def settings(url: str, **values: float) -> StateSettings:
    return StateSettings.model_validate({"url": url} | values)


class TestMigrations:
    """The schema is created once, completely, and never by an older cropline."""

    def test_eight_processes_that_start_together_make_it_once(self, url: str) -> None:
        run_together(open_and_register, [(url, f"p{n}") for n in range(8)])
        look = Look(url)
        versions = look.rows("SELECT version FROM cropline_schema ORDER BY version")
        assert versions == [(number,) for number in range(1, len(versions) + 1)]
        assert look.one("SELECT count(*) FROM images") == 8

    def test_opening_again_keeps_what_is_there(self, url: str) -> None:
        with State.open(settings(url)) as state:
            state.register(registration([candidate("a")]))
        with State.open(settings(url)) as state:
            assert ids(state.claim(limit=1, owner="test")) == ["a"]

    def test_the_tables_are_what_the_queries_think_they_are(self, url: str) -> None:
        with State.open(settings(url)):
            pass
        engine = create_engine(url)
        found = inspect(engine)
        for table in metadata.sorted_tables:
            columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
            assert columns == {column.name: column.nullable for column in table.columns}, table.name
            key = found.get_pk_constraint(table.name)["constrained_columns"]
            assert key == [column.name for column in table.primary_key.columns], table.name
        assert set(found.get_table_names()) - {"sqlite_sequence"} == set(metadata.tables)
        engine.dispose()

    def test_a_newer_schema_is_refused_and_left_alone(self, url: str) -> None:
        with State.open(settings(url)):
            pass
        engine = create_engine(url)
        with engine.begin() as connection:
            newest = connection.exec_driver_sql("SELECT max(version) FROM cropline_schema").scalar()
            connection.exec_driver_sql(f"UPDATE cropline_schema SET version = 99 WHERE version = {newest}")
        engine.dispose()
        with pytest.raises(SchemaTooNew, match=f"has schema 99 of a newer cropline; this one knows {newest}$"):
            State.open(settings(url))
        assert Look(url).one("SELECT max(version) FROM cropline_schema") == 99

    def test_a_table_of_somebody_else_is_not_touched(self, url: str) -> None:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE batches (theirs TEXT)")
        with pytest.raises(StateError, match="batches"):
            State.open(settings(url))
        assert inspect(engine).get_table_names() == ["batches"]
        engine.dispose()


class TestClearErrors:
    """One line, and no password."""

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql+psycopg://cropline:hunter2@127.0.0.1:1/cropline",
            "postgresql+psycopg://cropline:hunter2@nobody.invalid/cropline",
            "postgresql+psycopg://cropline:hunter2@127.0.0.1:notaport/cropline",
        ],
    )
    def test_a_server_that_is_not_there(self, url: str) -> None:
        with pytest.raises(StateError) as caught:
            State.open(settings(url))
        assert "\n" not in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert "state" in str(caught.value)

    def test_a_wrong_password(self, postgres: Postgres) -> None:
        postgres.execute("CREATE ROLE somebody LOGIN")
        url = postgres.url.replace("postgres:@", "somebody:hunter2@").replace("/postgres?", "/nowhere?")
        with pytest.raises(StateError, match="nowhere") as caught:
            State.open(settings(url))
        assert "hunter2" not in str(caught.value)
        assert "***" in str(caught.value)

    @pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
    def test_a_state_that_would_not_outlive_the_process(self, url: str) -> None:
        with pytest.raises(StateError, match="needs a file that outlives the process"):
            State.open(settings(url))

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StateError, match="cannot create the folder"):
            State.open(settings(f"sqlite:///{tmp_path}/file/state.db"))

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "state.db").write_text("a letter, and quite a long one" * 100)
        with pytest.raises(StateError, match="file is not a database"):
            State.open(settings(f"sqlite:///{tmp_path}/state.db"))
        assert (tmp_path / "state.db").read_text().startswith("a letter")

    def test_a_path_that_is_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(StateError, match="unable to open database file"):
            State.open(settings(f"sqlite:///{tmp_path}"))

    def test_a_file_that_cannot_be_written(self, tmp_path: Path) -> None:
        path = tmp_path / "state.db"
        with State.open(settings(f"sqlite:///{path}")):
            pass
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        # Root may write anywhere, so the database is opened read-only.
        with pytest.raises(StateError) as caught:
            State.open(settings(f"sqlite:///file:{path}?mode=ro&uri=true"))
        assert "readonly" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_missing_folder_is_made(self, tmp_path: Path) -> None:
        with State.open(settings(f"sqlite:///{tmp_path}/not/yet there/state.db")) as state:
            assert state.cursor("cams") is None


class TestSqlite:
    """The settings that make SQLite safe with several processes."""

    def test_a_writer_waits_for_another_instead_of_failing(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/state.db"
        with State.open(settings(url)) as state:
            holder = sqlite3.connect(tmp_path / "state.db", isolation_level=None, check_same_thread=False)
            holder.execute("BEGIN IMMEDIATE")
            threading.Timer(0.3, lambda: holder.execute("COMMIT")).start()
            assert state.register(registration([candidate("a")])).new == 1
            holder.close()

    def test_opening_a_new_database_waits_for_another_process_that_writes_to_it(self, tmp_path: Path) -> None:
        with (
            closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as holder,
            ThreadPoolExecutor() as threads,
        ):
            holder.execute("BEGIN IMMEDIATE")
            opening = threads.submit(State.open, settings(f"sqlite:///{tmp_path}/state.db"))
            assert wait([opening], timeout=0.2).not_done
            holder.execute("COMMIT")
            with opening.result(timeout=60) as state:
                assert state.report().images["pending"] == 0

    def test_readers_do_not_wait_for_a_writer(self, tmp_path: Path) -> None:
        with State.open(settings(f"sqlite:///{tmp_path}/state.db")) as state:
            state.register(registration([candidate("a")]))
            with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as holder:
                holder.execute("BEGIN IMMEDIATE")
                holder.execute("DELETE FROM images")
                assert state.report().images["pending"] == 1
                assert state.cursor("cams") is not None
                holder.execute("ROLLBACK")

    def test_commits_reach_the_disk(self, tmp_path: Path) -> None:
        with State.open(settings(f"sqlite:///{tmp_path}/state.db")) as state, state._database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


class TestPostgres:
    """Faults that only a server can have."""

    def test_a_restart_in_the_middle_is_one_clear_error_and_then_work_goes_on(self) -> None:
        server = Postgres()
        try:
            with State.open(settings(server.fresh())) as state:
                state.register(registration([candidate("a"), candidate("b")]))
                batch = state.claim(limit=1, owner="test")
                assert batch is not None
                server.stop()
                calls: list[Callable[[], object]] = [
                    lambda: state.renew(batch),
                    lambda: state.claim(limit=1, owner="test"),
                    lambda: state.register(registration([candidate("c")], manifest="m2")),
                    lambda: state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1),
                    state.report,
                ]
                for call in calls:
                    with pytest.raises(StateError) as caught:
                        call()
                    assert "\n" not in str(caught.value)
                server.start()
                # The same object and batch: nothing was lost.
                state.renew(batch)
                assert state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1).done == 1
                assert state.report().images["done"] == 1
                assert len(ids(state.claim(limit=5, owner="test"))) == 1
        finally:
            server.close()

    def test_a_connection_that_breaks_inside_a_transaction_leaves_nothing_of_it(self, postgres: Postgres) -> None:
        url = postgres.fresh()
        with State.open(settings(url)) as state:
            state.register(registration([candidate("a")]))
            before = Look(url).everything()

            def cut_off() -> object:
                yield registration([candidate("b")]).rows
                postgres.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'cropline' AND state <> 'idle'"
                )
                yield registration([candidate("c")]).rows

            with pytest.raises(StateError):
                state.register(registration([], rows=cut_off(), manifest="m2"))
            assert Look(url).everything() == before
            assert state.register(registration([candidate("b")], manifest="m2")).new == 1

    def test_leases_run_by_the_servers_clock_not_by_ours(self, postgres: Postgres) -> None:
        # This schema comes first in the search path: for this connection the server's clock is a day ahead.
        url = postgres.fresh()
        schema = url.rsplit("%3D", 1)[1]
        with State.open(settings(url)) as state:
            state.register(registration([candidate("a")]))
            batch = state.claim(limit=1, owner="us")
            assert batch is not None
            assert state.claim(limit=1, owner="others") is None
        postgres.execute(
            f"CREATE FUNCTION {schema}.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
            " AS $$ SELECT pg_catalog.now() + interval '1 day' $$"
        )
        with State.open(settings(postgres.with_search_path(schema, "pg_catalog"))) as state:
            taken = state.claim(limit=1, owner="others")
            assert taken is not None
            assert (taken.batch_id, taken.attempt) == (batch.batch_id, 2)
            assert taken.lease_until - datetime.now(UTC) > timedelta(hours=23)

    def test_a_claim_does_not_wait_for_a_registration_in_progress(self, postgres: Postgres, clock: Clock) -> None:
        url = postgres.fresh()
        with State.open(settings(url), clock=clock) as state:
            state.register(registration([candidate("a", at=1), candidate("b", at=2)]))
            with psycopg.connect(url.replace("+psycopg", "")) as other:
                other.execute("UPDATE images SET version = 'v2' WHERE image_id = 'b'")
                other.execute("UPDATE sources SET cursor = cursor")
                assert ids(state.claim(limit=5, owner="test")) == ["a"]
                other.rollback()
            assert ids(state.claim(limit=5, owner="test")) == ["b"]

    def test_a_claim_reads_what_it_takes_though_statistics_lag_behind_a_burst(self, postgres: Postgres) -> None:
        url = postgres.fresh()
        names = [f"i{n:04}" for n in range(1_000)]
        with State.open(settings(url)) as state:
            state.register(registration([candidate(f"old{n}", profile=p) for n in range(2_000) for p in RECIPES]))
            batch = state.claim(limit=2_000, owner="test")
            assert batch is not None
            state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
            with state._database.engine.connect() as connection:
                connection.exec_driver_sql("ANALYZE images")  # from now on the statistics say that nothing is pending
            rows = [candidate(name, profile=profile) for name in names for profile in RECIPES]
            state.register(registration(rows, manifest="burst"))
        before = self._read(url)
        with State.open(settings(url)) as state:
            assert ids(state.claim(limit=2_000, owner="test")) == names
        # 2,000 work items: each is read in the queue, as a sibling, and for its update. Quadratic would be 4,000,000.
        assert self._read(url) - before < 30_000

    def test_a_claim_reads_what_it_takes_however_much_is_done_or_waits(self, postgres: Postgres) -> None:
        url = postgres.fresh()
        with State.open(settings(url)) as state:
            for manifest, count in (("done", 5_000), ("pending", 2_000)):
                rows = [candidate(f"{manifest}{n}", profile=p) for n in range(count) for p in RECIPES]
                state.register(registration(rows, manifest=manifest))
                if manifest == "done":
                    batch = state.claim(limit=count, owner="test")
                    assert batch is not None
                    state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1)
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE images")
        before = self._read(url)
        with State.open(settings(url)) as state:
            assert len(ids(state.claim(limit=1_500, owner="test"))) == 1_500
        assert self._read(url) - before < 15_000  # each of 3,000 work items three times; reading all rows makes 40,000

    def _read(self, url: str) -> int:
        """Return how many rows of images all connections have read so far, with an index or without."""
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            row = connection.execute(
                "SELECT t.seq_tup_read + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid)"
                " FROM pg_stat_user_tables t WHERE relid = 'images'::regclass"
            ).fetchone()
            assert row is not None
            return int(row[0])

    def test_a_commit_that_meets_a_takeover_in_progress_waits_and_is_refused(self, postgres: Postgres) -> None:
        url = postgres.fresh()
        with State.open(settings(url)) as state, psycopg.connect(url.replace("+psycopg", "")) as other:
            state.register(registration([candidate("a")]))
            batch = state.claim(limit=1, owner="zombie")
            assert batch is not None
            other.execute("UPDATE batches SET attempt = 2")  # not committed yet
            told: list[object] = []

            def commit() -> None:
                try:
                    told.append(state.commit(batch, outcomes(batch), counts=counts(batch), catalogue_version=1))
                except StaleLease as error:
                    told.append(error)

            zombie = threading.Thread(target=commit)
            zombie.start()
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as watcher:
                while zombie.is_alive() and watcher.execute(waiting).fetchone() == (0,):
                    pass
            other.commit()
            zombie.join()
            assert [type(one) for one in told] == [StaleLease]
            assert Look(url).states() == {"a": "claimed"}

    def test_a_batch_that_is_being_committed_is_not_taken_over(self, postgres: Postgres, clock: Clock) -> None:
        url = postgres.fresh()
        with State.open(settings(url), clock=clock) as state, psycopg.connect(url.replace("+psycopg", "")) as other:
            state.register(registration([candidate("a")]))
            batch = state.claim(limit=1, owner="slow")
            clock.forward(days=1)
            other.execute("SELECT * FROM batches FOR UPDATE")  # as a commit does first
            assert state.claim(limit=1, owner="eager") is None
            other.rollback()
            assert ids(state.claim(limit=1, owner="eager")) == ids(batch)

    def test_known_work_is_read_and_not_locked(self, postgres: Postgres) -> None:
        url = postgres.fresh()
        with State.open(settings(url)) as state:
            state.register(registration([candidate(f"i{n}") for n in range(50)]))
            again = registration([candidate(f"i{n}") for n in range(60)], manifest="m2")
            assert state.register(again).known == 50
        # A row that was locked or changed holds the id of the transaction that did it.
        assert Look(url).one("SELECT count(*) FROM images WHERE xmax <> 0") == 0

    def test_a_process_stopped_inside_a_transaction_does_not_hold_its_locks_for_ever(self, postgres: Postgres) -> None:
        with State.open(settings(postgres.fresh())) as state, state._database.atomic() as connection:
            timeout = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
        assert timeout == "1min"


def test_the_import_brings_neither_pandas_nor_arrow() -> None:
    code = "import sys, cropline.state; print(sorted({'pandas', 'pyarrow', 'psycopg', 'deltalake'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert found.stdout.strip() == "[]"

"""Stop the run before and after every side effect, by a kill, an exception or a lost reply; run again; compare.

The profiler makes kills and exceptions inside the run (killing.py). Proxies in front of S3, PostgreSQL and the
lineage collector make those outside it: crops are PUT by other processes, and replies are lost on the way. The
last tests lose the state itself, or restore it from a backup that is older than the catalogue.

Every place is disturbed before and after it, by one of the kinds that belong there, and every kind occurs. The other
combinations of place, kind and moment are slow.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from cropline.backfill.request import Photos
from cropline.pipeline.funnel import Funnel
from flows.backfill import backfill
from tests.contract.state.servers import Postgres
from tests.integration.collector import Collector
from tests.integration.conftest import Workspace
from tests.integration.cutting_proxy import CuttingProxy, Moment, cutting_proxy
from tests.integration.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from tests.integration.killing import AT, POLL, Lost, assert_same, lost_at, run_until_nothing_waits
from tests.integration.oracle import Ledger, books
from tests.integration.state_backup import PostgresState, SqliteState


def _crossed(places: dict[str, str], moments: dict[str, str], by_default: str) -> list[Any]:
    """Return every place at every moment. ``by_default``: their ids, but for those that are slow."""
    ids = by_default.split(", ")
    crossed = [
        pytest.param(
            places[place],
            moments[moment],
            id=f"{place}-{moment}",
            marks=() if f"{place}-{moment}" in ids else pytest.mark.slow,
        )
        for place, moment in product(places, moments)
    ]
    assert set(ids) <= {one.id for one in crossed}
    return crossed


_CALLS = {"before": "call", "after": "return"}
_STORE = {"before": "reset", "after": "lost reply"}
_SIDE_EFFECTS = {
    name: name for name in ("land", "State.register", "Catalogue.append", "State.commit", "Publisher.publish")
}


@pytest.mark.parametrize(
    ("function", "event"),
    _crossed(
        _SIDE_EFFECTS,
        _CALLS,
        "land-after, State.register-before, Catalogue.append-after, State.commit-before, Publisher.publish-after",
    ),
)
def test_killed_at_a_side_effect_it_ends_as_if_undisturbed(
    disturbed: Workspace, undisturbed: Ledger, function: str, event: str
) -> None:
    killed = disturbed.run(AT.format(function=function, event=event, signal="SIGKILL"))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    run_until_nothing_waits(disturbed)
    assert_same(disturbed, undisturbed)


@pytest.mark.parametrize(
    ("function", "event"),
    _crossed(
        _SIDE_EFFECTS,
        _CALLS,
        "land-before, State.register-after, Catalogue.append-before, State.commit-after, Publisher.publish-before",
    ),
)
def test_an_exception_at_a_side_effect_fails_the_run_and_the_next_ends_as_if_undisturbed(
    disturbed: Workspace, undisturbed: Ledger, function: str, event: str
) -> None:
    """With the exception after it, the side effect happened and its caller believes that it failed."""
    with pytest.raises(Lost), lost_at(function, event):
        disturbed.poll()
    run_until_nothing_waits(disturbed)
    assert_same(disturbed, undisturbed)


@pytest.mark.parametrize(
    "fault", [pytest.param("call", id="before", marks=pytest.mark.slow), pytest.param("call late", id="after")]
)
def test_killed_at_a_put_it_ends_as_if_undisturbed(
    disturbed: Workspace, undisturbed: Ledger, store: FaultyProxy, fault: Fault
) -> None:
    """The run and the process that holds the crop are killed when the PUT arrives, or after it was executed."""

    def kill() -> bool:
        run.send_signal(signal.SIGKILL, group=True)
        return False

    store.strike(fault, "PUT", "/crops/", call=kill)
    run = disturbed.start(POLL)
    assert run.wait() == -signal.SIGKILL
    assert store.struck == 1
    run_until_nothing_waits(disturbed)
    assert_same(disturbed, undisturbed)


@pytest.mark.parametrize(
    "fault", [pytest.param("refused", id="before"), pytest.param("refused late", id="after", marks=pytest.mark.slow)]
)
def test_a_put_that_is_refused_fails_its_photo_and_the_next_run_ends_as_if_undisturbed(
    disturbed: Workspace, undisturbed: Ledger, store: FaultyProxy, fault: Fault
) -> None:
    store.strike(fault, "PUT", "/crops/")
    funnel = disturbed.poll()
    assert (store.struck, funnel.reasons) == (1, Counter(storage=1))
    run_until_nothing_waits(disturbed)
    assert_same(disturbed, undisturbed)


@pytest.mark.parametrize(
    ("where", "fault"),
    _crossed(
        {"land": "/manifests/", "PUT": "/crops/", "catalogue commit": "/_delta_log/"},
        _STORE,
        "land-after, PUT-after, catalogue commit-before, catalogue commit-after",
    ),
)
def test_a_lost_reply_of_the_store_changes_nothing(
    disturbed: Workspace, undisturbed: Ledger, store: FaultyProxy, where: str, fault: Fault
) -> None:
    """``_delta_log``: the second commit there; the first one creates the table."""
    store.strike(fault, "PUT", where, every=2 if "delta" in where else 1)
    run_until_nothing_waits(disturbed)
    assert store.struck == 1
    assert_same(disturbed, undisturbed)


@pytest.fixture
def line(disturbed: Workspace, postgres: Postgres) -> Iterator[CuttingProxy]:
    """Put the run's state in PostgreSQL, behind a proxy."""
    with cutting_proxy(postgres.url) as proxy:
        disturbed.set(STATE__URL=proxy.url(postgres.fresh().rsplit("%3D", 1)[1]))
        yield proxy


@pytest.mark.parametrize(
    ("statement", "moment"),
    _crossed(
        {"register": "INSERT INTO manifests", "claim": "INSERT INTO batches", "state commit": "committed_at="},
        {"before": "before", "after": "after"},
        "register-after, claim-before, state commit-before, state commit-after",
    ),
)
def test_a_lost_commit_or_its_lost_reply_changes_nothing(
    disturbed: Workspace, undisturbed: Ledger, line: CuttingProxy, statement: str, moment: Moment
) -> None:
    """The connection is cut when COMMIT is on its way to the server, or its reply on its way back."""
    line.strike(moment, statement)
    run_until_nothing_waits(disturbed)
    assert line.struck == 1
    assert_same(disturbed, undisturbed)


@pytest.mark.parametrize(
    "fault", [pytest.param("reset", id="before", marks=pytest.mark.slow), pytest.param("lost reply", id="after")]
)
def test_an_event_whose_reply_was_lost_is_sent_again_under_the_same_id(
    disturbed: Workspace, undisturbed: Ledger, fault: Fault
) -> None:
    collector = Collector()
    try:
        with faulty_proxy(collector.url) as proxy:
            disturbed.set(LINEAGE__TRANSPORT="http", LINEAGE__URL=proxy.url)
            proxy.strike(fault, "POST", "")
            run_until_nothing_waits(disturbed)
            assert proxy.struck == 1
    finally:
        collector.close()
    sent = Counter((event["run"]["runId"], event["eventType"]) for event in collector.events)
    told = {json.dumps(event, sort_keys=True) for event in collector.events}
    print(f"events={len(told)} sent={sent.total()}")
    assert sent.total() == len(sent) + (fault == "lost reply")
    assert len(told) == len(sent), "an event that is sent again is the same"
    assert_same(disturbed, undisturbed)


def _kept(request: pytest.FixtureRequest, here: Workspace, database: str) -> SqliteState | PostgresState:
    """Return the disturbed workspace's state, which can be backed up, lost and restored."""
    if database == "sqlite":
        return SqliteState(here.environment["CROPLINE_STATE__URL"])
    made = PostgresState(request.getfixturevalue("postgres"), here.folder)
    here.set(STATE__URL=made.url)
    return made


@pytest.mark.parametrize(
    ("database", "moment"),
    [
        pytest.param("sqlite", "State.claim", id="nothing claimed"),
        pytest.param("sqlite", "Catalogue.append", id="a batch open", marks=pytest.mark.slow),
        pytest.param("postgresql", "Catalogue.append", id="a batch open, PostgreSQL"),
    ],
)
def test_a_state_restored_from_an_older_backup_ends_as_if_undisturbed(
    disturbed: Workspace, undisturbed: Ledger, request: pytest.FixtureRequest, database: str, moment: str
) -> None:
    """The catalogue is complete by then; the backup does not know some of its batches, or has them open."""
    kept = _kept(request, disturbed, database)
    with pytest.raises(Lost), lost_at(moment, "call"):
        disturbed.poll()
    backup = kept.backup()
    run_until_nothing_waits(disturbed)
    kept.restore(backup)
    run_until_nothing_waits(disturbed)
    assert_same(disturbed, undisturbed)


def test_a_lost_state_is_rebuilt_without_cutting_or_duplicating_a_crop(
    disturbed: Workspace, undisturbed: Ledger, request: pytest.FixtureRequest
) -> None:
    kept = _kept(request, disturbed, "sqlite")
    run_until_nothing_waits(disturbed)
    kept.lose()
    rebuilt = backfill(photos=Photos(), announced="manifests")
    assert isinstance(rebuilt, Funnel)
    assert rebuilt.written == undisturbed.crops.total()
    disturbed.poll()
    end = books(disturbed.place)
    assert end.crops == undisturbed.crops
    assert Counter(row[:8] for row in end.rows.elements()) == Counter(row[:8] for row in undisturbed.rows.elements())
    assert (end.unnamed, end.torn, end.open_batches, end.works) == (frozenset(), 0, 0, undisturbed.works)

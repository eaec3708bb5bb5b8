"""Servers that break in the middle: the run fails cleanly or waits, and the next one finishes the work."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cropline.core import store_probe
from cropline.core.errors import ApiUnavailable, CatalogueError, StateError, StorageError
from tests.contract.state.servers import Postgres
from tests.integration.collector import Collector
from tests.integration.conftest import Workspace, after_a_poll, all_boxes
from tests.integration.faulty_proxy import Fault, FaultyProxy
from tests.integration.killing import assert_same, run_until_nothing_waits
from tests.integration.oracle import Ledger, Tally, books, boxes


# One answer and one silence by default. Each kind at each single write: test_crash_matrix.py, test_catalogue_s3.py.
@pytest.mark.parametrize(
    "fault",
    ["slow down", "lost reply", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("500", "503", "reset"))],
)
def test_a_store_that_fails_every_third_request_loses_nothing(
    disturbed: Workspace, undisturbed: Ledger, store: FaultyProxy, fault: Fault
) -> None:
    """Every third request, of any kind, fails from the start to the end of the run. An earlier run checked the store."""
    store_probe.require(disturbed.settings.storage.spec)
    store.strike(fault, times=10_000, every=3)
    try:
        how = f"{disturbed.poll().written} crops written"
    except (StorageError, CatalogueError) as error:
        how = str(error)
    print(f"{fault}: {store.struck} requests broken; {how}")
    assert store.struck > 10
    store.calm()
    run_until_nothing_waits(disturbed)
    assert_same(disturbed, undisturbed)


def test_a_store_that_goes_away_in_the_middle_fails_the_run_and_the_next_one_finishes(
    disturbed: Workspace, undisturbed: Ledger, store: FaultyProxy
) -> None:
    def refuse_all() -> bool:
        store.strike("refused", times=10_000)
        return False

    store.strike("call", "PUT", "/crops/", call=refuse_all)
    with pytest.raises((StorageError, CatalogueError)) as failed:
        disturbed.poll()
    print(failed.value)
    assert "\n" not in str(failed.value)
    store.calm()
    run_until_nothing_waits(disturbed)
    assert_same(disturbed, undisturbed)


@pytest.fixture
def own_postgres(disturbed: Workspace) -> Iterator[Postgres]:
    """Keep the disturbed workspace's state in a separate server, so that a test may stop it."""
    server = Postgres()
    disturbed.set(STATE__URL=server.fresh())
    yield server
    server.close()


def test_postgresql_stopped_and_started_in_the_middle_of_a_run_is_waited_for(
    disturbed: Workspace, undisturbed: Ledger, store: FaultyProxy, own_postgres: Postgres
) -> None:
    """It stops as in a crash after the catalogue's commit: the state's commit is next."""
    back = threading.Timer(2, own_postgres.start)

    def stop() -> bool:
        own_postgres.stop()
        back.start()
        return True

    store.strike("call late", "PUT", "/_delta_log/", every=2, call=stop)
    funnel = disturbed.poll()
    back.join()
    assert (store.struck, funnel.written) == (1, undisturbed.crops.total())
    assert disturbed.poll().nothing_new
    assert_same(disturbed, undisturbed)


@pytest.mark.parametrize("where", ["/crops/", "/_delta_log/"], ids=["while it crops", "between the commits"])
def test_postgresql_that_stays_down_fails_the_run_and_the_next_one_finishes(
    disturbed: Workspace, undisturbed: Ledger, store: FaultyProxy, own_postgres: Postgres, where: str
) -> None:
    def stop() -> bool:
        own_postgres.stop()
        return True

    store.strike("call late", "PUT", where, every=2, call=stop)
    with pytest.raises(StateError) as failed:
        disturbed.poll()
    print(failed.value)
    assert "\n" not in str(failed.value)
    own_postgres.start()
    run_until_nothing_waits(disturbed)
    assert_same(disturbed, undisturbed)


def test_an_api_that_is_down_for_a_whole_run_fails_it_and_the_next_one_reads_all(
    disturbed: Workspace, undisturbed: Ledger
) -> None:
    disturbed.set(API__RETRIES="0")
    disturbed.api.control.add_fault("listing_500")
    with pytest.raises(ApiUnavailable):
        disturbed.poll()
    disturbed.api.control.clear_faults()
    run_until_nothing_waits(disturbed)
    assert_same(disturbed, undisturbed)


def test_an_absent_collector_fails_no_run_and_gets_every_event_later(disturbed: Workspace, undisturbed: Ledger) -> None:
    disturbed.set(LINEAGE__TRANSPORT="http", LINEAGE__URL="http://127.0.0.1:1")
    assert disturbed.poll().images == 3
    left = books(disturbed.place)
    print(f"{left.against(undisturbed)} unpublished={left.unpublished}")
    assert (left.against(undisturbed), left.unpublished) == (Tally(), 6)
    collector = Collector()
    try:
        disturbed.set(LINEAGE__URL=collector.url)
        assert disturbed.poll().nothing_new
    finally:
        collector.close()
    ends = Counter(event["run"]["runId"] for event in collector.events if event["eventType"] != "START")
    starts = Counter(event["run"]["runId"] for event in collector.events if event["eventType"] == "START")
    assert ends == starts
    assert set(ends.values()) == {1}
    assert len(ends) == 4  # two polls, one validation, one batch
    assert_same(disturbed, undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB: room for the manifest, not for all crops."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _refill(place: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(place)], check=True)


@all_boxes
def test_a_full_disk_fails_boxes_or_the_run_and_loses_nothing(workspace: Workspace, small_disk: Path) -> None:
    workspace.set(
        STORAGE__URL=(small_disk / "output").as_uri(), STATE__BACKOFF_S="0.001", PROFILES='{"big": {"format": "png"}}'
    )
    ended = workspace.run("from flows.poll import poll; print(poll().reasons['storage'])")
    full = subprocess.run(["df", "--output=avail", str(small_disk)], capture_output=True, text=True, check=True).stdout
    assert int(full.split()[-1]) < 100, "the disk was to be full"
    assert ended.returncode == 1 or int(ended.stdout.split()[-1]) > 0
    _refill(small_disk, 200)
    workspace.poll()
    workspace.process()
    left = books(workspace.place)
    tally = left.against_boxes(boxes(workspace.api.control.images()))
    print(f"{tally} crops={left.crops.total()}")
    assert tally == Tally()


@after_a_poll()
def test_an_output_that_went_away_fails_the_run_in_one_line(workspace: Workspace) -> None:
    output = workspace.folder / "output"
    output.rename(workspace.folder / "moved")
    output.write_text("a file stands where the folder was")
    with pytest.raises(StorageError, match="cannot write file://"):
        workspace.poll()

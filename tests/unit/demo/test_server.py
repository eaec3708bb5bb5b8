"""The server's process: it starts, prints its address, and never outlives its parent."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import requests

from demo.__main__ import main
from demo.faults import Fault, FaultRule
from demo.server import DemoServer, DemoServerError
from demo.settings import DemoSettings
from demo.stores import write_stores

PARENT = """
import sys, time
from demo.server import DemoServer
with DemoServer(photos=0, cache_dir=sys.argv[1]) as api:
    print(api._process.pid, flush=True)
    time.sleep(60)
"""


def ended(pid: int) -> bool:
    for _ in range(100):
        if not psutil.pid_exists(pid):
            return True
        time.sleep(0.05)
    return False


def test_settings_reach_the_process_and_the_token_stays_out_of_sight(tmp_path: Path) -> None:
    rule = FaultRule(fault=Fault.LISTING_500, times=1)
    settings = DemoSettings(photos=0, cache_dir=tmp_path, faults=(rule,), token="only-mine")
    assert "only-mine" not in repr(settings)
    with DemoServer(settings) as api:
        assert api.control.faults() == [rule]
        tokens = ("demo-token", "only-mine", "only-mine")
        headers = [{"Authorization": f"Bearer {token}"} for token in tokens]
        statuses = [requests.get(api.images_url, headers=one, timeout=5).status_code for one in headers]
    assert statuses == [401, 500, 200]


def test_the_process_ends_with_the_block_even_when_a_drip_is_running(photo_cache: Path) -> None:
    with DemoServer(photos=1, megapixels=0.1, cache_dir=photo_cache) as api:
        assert api._process is not None
        pid = api._process.pid
        api.control.add_fault(Fault.IMAGE_SLOW_DRIP, seconds=30)
        dripping = requests.get(api.control.images()[0]["url"], stream=True, timeout=5)
    assert ended(pid)
    dripping.close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = api.control


def test_the_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert ended(pid)


def test_a_server_that_cannot_draw_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(DemoServerError, match="ended with status"), DemoServer(photos=1, cache_dir=blocked):
        pass


def test_stores_table_has_a_row_for_every_store_that_is_listed(tmp_path: Path) -> None:
    count = write_stores(tmp_path / "deep" / "stores.parquet", stores=6)
    table = pq.read_table(tmp_path / "deep" / "stores.parquet")
    assert table.num_rows == count == 6
    assert table.column_names == ["store_id", "store_name", "city", "region", "store_format"]
    assert len(set(table["store_id"].to_pylist())) == 6


def test_serve_prints_its_address_and_serves_there(photo_cache: Path) -> None:
    options = [
        "--port",
        "0",
        "--photos",
        "1",
        "--megapixels",
        "0.1",
        "--fault",
        "image_500@x",
        "--fault",
        "listing_429x2",
    ]
    command = [sys.executable, "-m", "demo", "serve", *options, "--cache-dir", str(photo_cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().split()[0]
            headers = {"Authorization": "Bearer demo-token"}
            statuses = [requests.get(address, headers=headers, timeout=60).status_code for _ in range(3)]
        finally:
            process.send_signal(signal.SIGINT)
    assert statuses == [429, 429, 200]


def test_draw_and_stores_commands_leave_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--photos", "2", "--megapixels", "0.1", "--workers", "1", "--cache-dir", str(tmp_path / "photos")]
    assert main(["draw", *options]) == 0
    assert len(list((tmp_path / "photos").glob("*.jpg"))) == 2
    assert main(["stores", "--out", str(tmp_path / "stores.parquet")]) == 0
    assert "6 stores" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["serve", "--fault", "no_such"], ["draw", "--megapixels", "90"], ["stores"], ["serve", "--photos", "-1"]],
)
def test_wrong_options_are_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 2
    assert "error:" in capsys.readouterr().err

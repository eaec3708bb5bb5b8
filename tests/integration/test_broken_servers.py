"""Servers that break in the middle: the run fails clean or waits, and the next one finishes the work."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cropline.errors import StorageError
from tests.integration.conftest import Workspace


class Collector:
    """A lineage collector: real HTTP, keeps what it is sent."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.events.append(json.loads(body))
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_a_dead_collector_fails_nothing_and_gets_every_event_once_it_lives(workspace: Workspace) -> None:
    workspace.set(LINEAGE__TRANSPORT="http", LINEAGE__URL="http://127.0.0.1:1")
    assert workspace.poll().images == 6
    assert workspace.end_state()["unpublished"] == 6
    collector = Collector()
    try:
        workspace.set(LINEAGE__URL=collector.url)
        assert workspace.poll().nothing_new
    finally:
        collector.close()
    assert workspace.end_state()["unpublished"] == 0
    ends = Counter(event["run"]["runId"] for event in collector.events if event["eventType"] != "START")
    starts = Counter(event["run"]["runId"] for event in collector.events if event["eventType"] == "START")
    assert ends == starts
    assert set(ends.values()) == {1}
    assert len(ends) == 4  # two polls, one validation, one batch


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


def test_a_full_disk_fails_boxes_or_the_run_and_loses_nothing(workspace: Workspace, small_disk: Path) -> None:
    workspace.set(
        STORAGE__URL=(small_disk / "output").as_uri(), STATE__BACKOFF_S="0.001", PROFILES='{"big": {"format": "png"}}'
    )
    ended = workspace.child("from flows.poll import poll; print(poll().reasons['storage'])")
    full = subprocess.run(["df", "--output=avail", str(small_disk)], capture_output=True, text=True, check=True).stdout
    assert int(full.split()[-1]) < 100, "the disk was to be full"
    assert ended.returncode == 1 or int(ended.stdout.split()[-1]) > 0
    _refill(small_disk, 200)
    workspace.poll()
    workspace.process()
    assert set(workspace.states().values()) == {"done"}
    rows, objects = workspace.rows(), workspace.objects()
    assert len(rows) == sum(len(row["boxes"]) for row in workspace.api.control.images())
    assert {row["key"]: row["bytes"] for row in rows} == {key: len(data) for key, data in objects.items()}


def test_an_output_that_went_away_fails_the_run_in_one_line(workspace: Workspace) -> None:
    workspace.poll()
    output = workspace.folder / "output"
    output.rename(workspace.folder / "moved")
    output.write_text("a file stands where the folder was")
    with pytest.raises(StorageError, match="cannot write file://"):
        workspace.poll()

"""Each run that emitted START emits one end, whatever happens to it or to the collector, and never waits for it."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.integration.conftest import Workspace
from tests.integration.test_kills import BETWEEN

Answer = Callable[[BaseHTTPRequestHandler], None]


class Collector:
    """A real HTTP collector that keeps the events it accepted. ``answer`` may be changed while it runs."""

    def __init__(self) -> None:
        self.accepted: list[dict[str, Any]] = []
        self.asked = 0
        self.answer: Answer = accept
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked += 1
                if outer.answer is accept:
                    outer.accepted.append(event)
                outer.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Suppress the log."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def ends(self) -> dict[str, Counter[str]]:
        """Return {run id: its events by kind}."""
        found: dict[str, Counter[str]] = {}
        for event in self.accepted:
            found.setdefault(event["run"]["runId"], Counter())[event["eventType"]] += 1
        return found


def accept(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(201)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.release.set()
        collector.server.shutdown()
        collector.server.server_close()
        thread.join()


@pytest.fixture
def collector(workspace: Workspace) -> Iterator[Collector]:
    with collecting() as collector:
        workspace.set(LINEAGE__TRANSPORT="http", LINEAGE__URL=collector.url)
        yield collector


def assert_one_end_each(collector: Collector) -> None:
    for run, kinds in collector.ends.items():
        ends = {kind: count for kind, count in kinds.items() if kind != "START"}
        assert (kinds["START"], sum(ends.values())) == (1, 1), (run, kinds)


@pytest.mark.parametrize("step", ["validate", "crop"])
def test_a_killed_run_is_ended_by_the_next_one(workspace: Workspace, collector: Collector, step: str) -> None:
    workspace.set(STATE__LEASE_S="0.2")
    killed = workspace.run(BETWEEN.format(step=step))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    workspace.poll()
    assert_one_end_each(collector)
    flows = [event for event in collector.accepted if event["job"]["name"] == "cropline.poll"]
    assert Counter(event["eventType"] for event in flows) == {"START": 2, "ABORT": 1, "COMPLETE": 1}
    (abort,) = [event for event in flows if event["eventType"] == "ABORT"]
    assert "no sign of life since" in abort["run"]["facets"]["errorMessage"]["message"]


def fail(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(500)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize("ill", ["hangs", "500"])
def test_a_run_ends_beside_an_ill_collector_and_nothing_is_lost(
    workspace: Workspace, collector: Collector, ill: str
) -> None:
    """The hanging collector hangs until the run has ended: a run that waited for it would never end."""

    def hang(handler: BaseHTTPRequestHandler) -> None:
        collector.release.wait()

    collector.answer = hang if ill == "hangs" else fail
    assert workspace.settings.lineage.timeout_s == 2
    assert workspace.poll().written > 0
    assert (collector.accepted, collector.asked) == ([], 1), "an ill collector is asked once a run"
    collector.answer = accept
    collector.release.set()
    assert workspace.poll().nothing_new
    assert_one_end_each(collector)
    jobs = Counter((event["job"]["name"], event["eventType"]) for event in collector.accepted)
    assert jobs == {
        (f"cropline.{job}", kind): 1 + (job == "poll")
        for job in ("poll", "validate", "crop")
        for kind in ("START", "COMPLETE")
    }

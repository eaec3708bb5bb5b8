"""Publishing to a file and to real collectors: healthy, refusing, failing, hanging, dripping and absent ones."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from cropline.config.lineage import LineageSettings
from cropline.core import storage
from cropline.core.store_spec import StoreSpec
from cropline.lineage import Event, Publisher, PublishResult

CANARY = "CANARY-7f3a"
EVENTS: list[Event] = [{"eventType": "COMPLETE", "run": {"runId": f"run-{n}"}, "text": "é\n"} for n in range(5)]

Answer = Callable[[BaseHTTPRequestHandler, int], None]


class Collector:
    """A real HTTP server that keeps what it receives and answers as configured."""

    def __init__(self, answer: Answer) -> None:
        self.got: list[tuple[str, str | None, Event]] = []
        self.connections = 0
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.got.append((self.path, self.headers["Authorization"], body))
                answer(self, len(outer.got))

            def log_message(self, format: str, *args: object) -> None:
                """Suppress the log."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def says(status: int, body: bytes = b"") -> Answer:
    def answer(handler: BaseHTTPRequestHandler, nth: int) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@contextmanager
def collecting(answer: Answer) -> Iterator[Collector]:
    collector = Collector(answer)
    thread = threading.Thread(target=collector.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield collector
    finally:
        collector.release.set()
        collector.server.shutdown()
        collector.server.server_close()
        thread.join()


def send(
    url: str, events: list[Event] = EVENTS, *, timeout_s: float = 2, token: str = ""
) -> tuple[PublishResult, float]:
    settings = LineageSettings(transport="http", url=url, timeout_s=timeout_s, token=SecretStr(token))
    started = time.monotonic()
    result = Publisher(settings, StoreSpec("memory:///")).publish(events)
    return result, time.monotonic() - started


def test_a_collector_that_is_well_gets_every_event_once_in_order_over_one_connection() -> None:
    with collecting(says(201, b"created")) as collector:
        result, _ = send(collector.url, token="secret")
    assert (result.published, result.complete, result.reason) == (5, True, None)
    assert [body for _, _, body in collector.got] == EVENTS
    assert {(path, auth) for path, auth, _ in collector.got} == {("/api/v1/lineage", "Bearer secret")}
    assert collector.connections == 1


def test_a_url_with_a_path_is_the_endpoint_itself() -> None:
    with collecting(says(200)) as collector:
        send(f"{collector.url}/proxy/lineage/", EVENTS[:1])
    assert [(path, auth) for path, auth, _ in collector.got] == [("/proxy/lineage", None)]


@pytest.mark.parametrize("status", [500, 503, 429, 401])
def test_a_collector_that_is_not_well_is_asked_once(status: int) -> None:
    with collecting(says(status, f"token {CANARY}".encode())) as collector:
        result, took = send(collector.url)
    assert [(d.ok, d.tried) for d in result.deliveries] == [(False, True)] + [(False, False)] * 4
    assert result.reason == f"the collector answered {status}"
    assert len(collector.got) == 1
    assert took < 2


def test_one_refused_event_does_not_hold_up_the_others() -> None:
    def answer(handler: BaseHTTPRequestHandler, nth: int) -> None:
        says(422 if nth == 2 else 200)(handler, nth)

    with collecting(answer) as collector:
        result, _ = send(collector.url)
    assert [d.ok for d in result.deliveries] == [True, False, True, True, True]
    assert result.reason == "the collector answered 422"
    assert len(collector.got) == 5


def test_nobody_listening_costs_almost_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result, took = send(f"http://127.0.0.1:{port}")
    assert (result.published, result.reason) == (0, "cannot reach the collector: ConnectionRefusedError")
    assert took < 1


def test_a_collector_that_never_answers_costs_its_timeout() -> None:
    def hang(handler: BaseHTTPRequestHandler, nth: int) -> None:
        collector.release.wait(30)

    with collecting(hang) as collector:
        result, took = send(collector.url, timeout_s=0.5)
    assert result.published == 0
    assert 0.4 < took < 2


def test_a_collector_that_drips_its_answer_costs_its_timeout() -> None:
    """Each byte arrives well within a socket's timeout; only the whole answer is too slow."""

    def drip(handler: BaseHTTPRequestHandler, nth: int) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: y\r\n" * 200:
            try:
                handler.wfile.write(bytes([byte]))
            except OSError:
                return
            if collector.release.wait(0.05):
                return

    with collecting(drip) as collector:
        result, took = send(collector.url, timeout_s=0.5)
    assert (result.published, result.reason) == (0, "the collector did not answer in time")
    assert 0.4 < took < 2


def test_a_backlog_stops_at_the_timeout_and_what_arrived_is_known() -> None:
    def slow(handler: BaseHTTPRequestHandler, nth: int) -> None:
        collector.release.wait(0.1)
        says(200)(handler, nth)

    with collecting(slow) as collector:
        result, took = send(collector.url, EVENTS * 20, timeout_s=0.7)
        published = result.published
    assert 1 <= published <= 8
    assert [d.ok for d in result.deliveries] == [True] * published + [False] * (100 - published)
    assert published <= len(collector.got) <= published + 1
    assert took < 2


def test_one_publisher_bounds_all_its_calls_together() -> None:
    def hang(handler: BaseHTTPRequestHandler, nth: int) -> None:
        collector.release.wait(30)

    with collecting(hang) as collector:
        settings = LineageSettings(transport="http", url=collector.url, timeout_s=0.5)
        publisher = Publisher(settings, StoreSpec("memory:///"))
        started = time.monotonic()
        results = [publisher.publish(EVENTS) for _ in range(10)]
        took = time.monotonic() - started
    assert sum(result.published for result in results) == 0
    assert not any(delivery.tried for delivery in results[-1].deliveries)
    assert took < 2
    assert len(collector.got) == 1


def test_an_answer_without_end_does_not_count_as_an_answer_for_ever() -> None:
    def endless(handler: BaseHTTPRequestHandler, nth: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not collector.release.is_set():
            try:
                handler.wfile.write(b"x" * 65536)
            except OSError:
                return

    with collecting(endless) as collector:
        result, took = send(collector.url, EVENTS[:2], timeout_s=1)
    assert result.complete
    assert took < 2


def test_garbage_for_an_answer_is_a_failure_that_shows_nothing_of_it() -> None:
    def garbage(handler: BaseHTTPRequestHandler, nth: int) -> None:
        handler.wfile.write(f"{CANARY}\r\n\r\n".encode())
        handler.close_connection = True

    with collecting(garbage) as collector:
        result, _ = send(collector.url, EVENTS[:1])
    assert (result.published, result.reason) == (0, "cannot reach the collector: BadStatusLine")


def test_a_token_that_no_header_can_hold_is_not_shown() -> None:
    with collecting(says(200)) as collector:
        result, _ = send(collector.url, token=f"{CANARY}\nX: y")
    assert (result.published, result.reason) == (0, "cannot reach the collector: ValueError")
    assert collector.got == []


def test_none_takes_everything_and_nothing_is_nothing() -> None:
    publisher = Publisher(LineageSettings(transport="none"), StoreSpec("memory:///"))
    assert publisher.publish(EVENTS).complete
    assert publisher.publish([]).deliveries == ()


def to_file(path: Path, events: list[Event] = EVENTS) -> PublishResult:
    return Publisher(LineageSettings(transport="file", path=str(path)), StoreSpec("memory:///")).publish(events)


def lines(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_gets_one_line_an_event(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.ndjson"
    assert to_file(path).complete
    assert to_file(path, EVENTS[:1]).complete
    assert lines(path) == [*EVENTS, EVENTS[0]]


def test_the_file_lies_beside_a_local_storage_by_default(tmp_path: Path) -> None:
    Publisher(LineageSettings(), StoreSpec(tmp_path.as_uri())).publish(EVENTS)
    assert lines(tmp_path / "lineage" / "events.ndjson") == EVENTS


def test_a_torn_line_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_text('{"run": ')
    assert to_file(path).complete
    torn, *rest = path.read_text().splitlines()
    assert torn == '{"run": '
    assert [json.loads(line) for line in rest] == EVENTS


def test_processes_that_append_at_once_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    script = (
        "import sys; from pathlib import Path; from tests.unit.cropline.lineage.test_transports import to_file\n"
        "for n in range(50): assert to_file(Path(sys.argv[1]), [{'who': sys.argv[2], 'n': n, 'text': 'x' * 20000}]).complete\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(path), str(n)]) for n in range(4)]
    assert [process.wait(timeout=60) for process in running] == [0] * 4
    found = [(event["who"], event["n"]) for event in lines(path)]
    assert sorted(found) == sorted((str(who), n) for who in range(4) for n in range(50))
    assert [n for who, n in found if who == "2"] == list(range(50))


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """A file size limit of the process simulates a full disk: the write is truncated in the middle of a line."""
    path = tmp_path / "events.ndjson"
    to_file(path, EVENTS[:1])
    before = path.read_bytes()
    script = (
        "import resource, signal, sys; from pathlib import Path; from tests.unit.cropline.lineage.test_transports import to_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "r = to_file(Path(sys.argv[1]), [{'text': 'x' * 5000}]); print(r.published, r.reason)\n"
    )
    said = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"0 {path}: File too large"
    assert path.read_bytes() == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_a_file_that_cannot_be_written_is_a_reason_not_an_exception(tmp_path: Path) -> None:
    (tmp_path / "events.ndjson").mkdir()
    result = to_file(tmp_path / "events.ndjson")
    assert (result.published, result.reason) == (0, f"{tmp_path}/events.ndjson: Is a directory")


def test_a_holder_of_the_file_that_is_stopped_costs_no_more_than_the_timeout(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "events.ndjson"
    with path.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        settings = LineageSettings(transport="file", path=str(path), timeout_s=0.3)
        started = time.monotonic()
        result = Publisher(settings, StoreSpec("memory:///")).publish(EVENTS)
        assert time.monotonic() - started < 2
    assert (result.published, result.reason) == (0, f"{path} is locked by another process")
    assert os.path.getsize(path) == 0  # noqa: PTH202


DATED: list[Event] = [{"eventTime": f"2026-11-22T08:4{n}:00.5Z", "n": n} for n in range(3)]


def stored(spec: StoreSpec) -> dict[str, list[Event]]:
    found = {key: storage.read(spec, key).decode() for key in storage.list_keys(spec, "lineage")}
    return {key: [json.loads(line) for line in text.splitlines()] for key, text in found.items()}


def test_a_storage_that_is_no_folder_gets_an_object_a_delivery_and_the_same_one_again() -> None:
    spec = StoreSpec("memory:///lineage-test")
    assert Publisher(LineageSettings(), spec).publish(DATED[:2]).complete
    first = stored(spec)
    assert list(first.values()) == [DATED[:2]]
    assert next(iter(first)).startswith("lineage/2026-11-22/0840005-")
    assert Publisher(LineageSettings(), spec).publish(DATED[2:]).complete
    assert Publisher(LineageSettings(), spec).publish(DATED[:2]).complete, "its first reply was lost"
    assert stored(spec) == first | {key: DATED[2:] for key in stored(spec) if key not in first}
    assert len(stored(spec)) == 2


def test_a_storage_that_refuses_or_hangs_keeps_the_events_in_the_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, CANARY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        spec = StoreSpec("s3://bucket/a", f"http://127.0.0.1:{silent.getsockname()[1]}", "us-east-1")
        result = Publisher(LineageSettings(timeout_s=0.5), spec).publish(DATED)
    assert (result.published, result.reason) == (0, "the storage did not answer in time")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        spec = StoreSpec("s3://bucket/b", f"http://127.0.0.1:{closed.getsockname()[1]}", "us-east-1")
        result = Publisher(LineageSettings(timeout_s=30), spec).publish(DATED)
    assert (result.published, result.deliveries[2].tried) == (0, True)
    assert "cannot write s3://bucket/b/lineage/2026-11-22/" in (result.reason or "")
    assert CANARY not in (result.reason or "")

"""Time and connections: whatever a host delays, the fetch ends at its deadline, and no host is overloaded.

Every slow server here finishes long after the deadline, so a fetch that ignored it would return a photo.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from cropline.config.settings import FetchSettings
from cropline.core.crop_options import FetchOptions
from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.addresses import Address
from fugue_jobs.fetching.fetch import Fetcher
from fugue_jobs.fetching.transport import system_connect
from tests.unit.fugue_jobs.fetching.fetch_servers import (
    PHOTO,
    Exchange,
    Names,
    certificates,
    chunked,
    head,
    ok,
    serving,
)
from tests.unit.fugue_jobs.fetching.test_fetch import BROKEN

LIMIT_S = 0.5
# Far below what any of the servers would take, far above what a busy machine adds.
SOON_S = 3.0
SMALL = b"\xff\xd8\xff" + bytes(60)


def timed(**changes: object) -> FetchOptions:
    return FetchSettings.model_validate({"allow_loopback": True, "timeout_s": LIMIT_S, **changes}).options


def times_out(fetcher: Fetcher, url: str) -> None:
    started = time.monotonic()
    with pytest.raises(PhotoFailure) as caught:
        fetcher.fetch(url)
    assert caught.value.code == "timeout"
    assert time.monotonic() - started < SOON_S


def drip(data: bytes) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.drip(data, every_s=0.1)


SLOW = {
    "body": lambda exchange: (exchange.send(head(200, "Content-Length: 63")), exchange.drip(SMALL, every_s=0.1)),
    "body without length": lambda exchange: (exchange.send(head(200)), exchange.drip(SMALL, every_s=0.1), exchange.hang_up()),
    "status line": drip(ok(SMALL)),
    "headers": lambda exchange: (exchange.send(b"HTTP/1.1 200 OK\r\n"), exchange.drip(b"X-A: b\r\n" * 20, every_s=0.1), exchange.send(ok(SMALL))),
    "chunk sizes": lambda exchange: (exchange.send(head(200, "Transfer-Encoding: chunked")), exchange.drip(b"1\r\nx\r\n" * 12 + b"0\r\n\r\n", every_s=0.1)),
    "chunk extension": lambda exchange: (exchange.send(head(200, "Transfer-Encoding: chunked") + b"1;"), exchange.drip(b"x" * 60, every_s=0.1)),
    "trailers": lambda exchange: (exchange.send(chunked(SMALL, end=b"0\r\n")), exchange.drip(b"X-A: b\r\n" * 9 + b"\r\n", every_s=0.1)),
    "100 Continue first": lambda exchange: (exchange.drip(head(100) * 3, every_s=0.1), exchange.send(ok(SMALL))),
    "nothing": lambda exchange: (exchange.stop.wait(6), exchange.send(ok(SMALL))),
    "nothing after the headers": lambda exchange: (exchange.send(head(200, "Content-Length: 63")), exchange.stop.wait(6), exchange.send(SMALL)),
}  # fmt: skip


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW.keys())
def test_every_kind_of_drip_ends_at_the_deadline(answer: Callable[[Exchange], None]) -> None:
    with serving(answer) as server, Fetcher(timed()) as fetcher:
        times_out(fetcher, server.url())


@pytest.mark.parametrize("answer", [SLOW["body"], SLOW["headers"], SLOW["nothing"]], ids=["body", "headers", "nothing"])
def test_every_kind_of_drip_ends_at_the_deadline_over_tls_too(
    answer: Callable[[Exchange], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = certificates(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with serving(answer, tls=context) as server, Fetcher(timed()) as fetcher:
        times_out(fetcher, server.url())


@pytest.mark.parametrize("quick_bytes", [0, 3000], ids=["handshake", "record"])
def test_one_tls_record_that_drips_ends_at_the_deadline(
    quick_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = certificates(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with ExitStack() as stack:
        server = stack.enter_context(serving(ok(bytes(9000)), tls=context))
        slow = stack.enter_context(_dripping_relay(server.port, quick_bytes=quick_bytes))
        times_out(stack.enter_context(Fetcher(timed())), f"https://127.0.0.1:{slow}/")


class _dripping_relay:  # noqa: N801
    """A TCP relay that passes the server's first bytes at once, and the rest one by one."""

    def __init__(self, port: int, *, quick_bytes: int) -> None:
        self._port, self._quick, self._stop = port, quick_bytes, threading.Event()

    def __enter__(self) -> int:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._relay, daemon=True).start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._listener.close()

    def _relay(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._port))
        threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
        passed = 0
        with client, server:
            while data := server.recv(1 if passed >= self._quick else 1000):
                if passed >= self._quick and self._stop.wait(0.1):
                    return
                passed += len(data)
                try:
                    client.sendall(data)
                except OSError:
                    return

    @staticmethod
    def _forward(client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            return


def test_a_handshake_that_never_comes_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, Fetcher(timed()) as fetcher:
        times_out(fetcher, f"https://127.0.0.1:{mute.getsockname()[1]}/")


def test_a_host_that_does_not_accept_ends_at_the_connect_timeout() -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # its queue is then full, and the kernel accepts no further connection
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        fetcher = stack.enter_context(Fetcher(timed(timeout_s=20, connect_timeout_s=LIMIT_S)))
        times_out(fetcher, f"http://127.0.0.1:{full.getsockname()[1]}/")


def test_a_name_server_that_is_silent_ends_at_the_connect_timeout() -> None:
    answered = threading.Event()

    def silent(host: str, port: int) -> Sequence[str]:
        answered.wait(20)
        return ["127.0.0.1"]

    with serving(ok()) as server, Fetcher(timed(timeout_s=20, connect_timeout_s=LIMIT_S), resolve=silent) as fetcher:
        times_out(fetcher, server.url(host="camera.test"))
        answered.set()


def test_the_time_of_all_redirects_counts_together() -> None:
    def slow_step(exchange: Exchange) -> None:
        exchange.stop.wait(0.3)
        exchange.send(head(302, "Location: /next", "Content-Length: 0"))

    with serving(slow_step) as server, Fetcher(timed(max_redirects=10)) as fetcher:
        times_out(fetcher, server.url())
    assert len(server.exchanges) == 2


def test_an_error_answer_that_drips_ends_too() -> None:
    def answer(exchange: Exchange) -> None:
        exchange.send(head(429, "Retry-After: 9", "Content-Length: 60"))
        exchange.drip(bytes(60), every_s=0.1)

    with serving(answer) as server, Fetcher(timed()) as fetcher:
        started = time.monotonic()
        with pytest.raises(PhotoFailure) as caught:
            fetcher.fetch(server.url())
    assert time.monotonic() - started < SOON_S
    assert (caught.value.code, caught.value.retry_after_s) == ("http_429", 9)


def test_a_slow_photo_that_makes_it_in_time_passes() -> None:
    def answer(exchange: Exchange) -> None:
        exchange.send(head(200, f"Content-Length: {len(PHOTO)}"))
        for start in range(0, len(PHOTO), 1000):
            exchange.stop.wait(0.02)
            exchange.send(PHOTO[start : start + 1000])

    with serving(answer) as server, Fetcher(timed(timeout_s=20)) as fetcher:
        assert fetcher.fetch(server.url()).data == PHOTO


def test_a_kept_connection_gets_a_new_deadline_for_each_photo() -> None:
    def answer(exchange: Exchange) -> None:
        exchange.stop.wait(0.3)
        exchange.send(ok())

    with serving(answer) as server, Fetcher(timed(timeout_s=0.7)) as fetcher:
        for _ in range(4):
            assert fetcher.fetch(server.url()).data == PHOTO
    assert server.connections == 1


def together(fetcher: Fetcher, urls: list[str]) -> list[str]:
    """Fetch all URLs at once in threads, and return each outcome."""

    def outcome(url: str) -> str:
        try:
            return "photo" if fetcher.fetch(url).data == PHOTO else "other bytes"
        except PhotoFailure as failure:
            return failure.code

    with ThreadPoolExecutor(len(urls)) as threads:
        return list(threads.map(outcome, urls))


@pytest.mark.parametrize("cap", [1, 3])
def test_threads_share_a_capped_number_of_connections_to_a_host(cap: int) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.stop.wait(0.03)
        exchange.send(ok())

    with serving(answer) as server, Fetcher(timed(timeout_s=20, connections_per_host=cap)) as fetcher:
        assert together(fetcher, [server.url(f"/{n}") for n in range(12)]) == ["photo"] * 12
    assert server.most_open == server.connections == cap


def test_waiting_for_our_own_connection_cap_does_not_count_as_the_hosts_delay() -> None:
    def answer(exchange: Exchange) -> None:
        exchange.stop.wait(0.3)
        exchange.send(ok())

    with serving(answer) as server, Fetcher(timed(timeout_s=0.9, connections_per_host=1)) as fetcher:
        assert together(fetcher, [server.url()] * 6) == ["photo"] * 6


def test_a_busy_host_does_not_hold_up_another() -> None:
    answering = threading.Event()

    def busy(exchange: Exchange) -> None:
        answering.wait(20)
        exchange.send(ok())

    with (
        serving(busy) as first,
        serving(ok()) as second,
        Fetcher(timed(timeout_s=20, connections_per_host=1)) as fetcher,
        ThreadPoolExecutor(2) as threads,
    ):
        held = [threads.submit(fetcher.fetch, first.url()) for _ in range(2)]
        assert fetcher.fetch(second.url()).data == PHOTO
        assert not any(photo.done() for photo in held)
        answering.set()
        assert [photo.result().data for photo in held] == [PHOTO, PHOTO]


def test_hosts_that_redirect_to_each_other_do_not_lock_each_other_out() -> None:
    both = threading.Barrier(2)

    def cross(exchange: Exchange) -> None:
        if exchange.path != "/start":
            return exchange.send(ok())
        both.wait(10)  # each holds its host's only connection now
        other = second if exchange.headers["host"].endswith(str(first.port)) else first
        return exchange.send(head(302, f"Location: {other.url('/end')}", "Content-Length: 0"))

    settings = timed(timeout_s=10, connections_per_host=1)
    with serving(cross) as first, serving(cross) as second, Fetcher(settings) as fetcher:
        assert together(fetcher, [first.url("/start"), second.url("/start")]) == ["photo", "photo"]


@pytest.mark.parametrize(
    "answer", [lambda exchange: exchange.hang_up(), head(404, "Content-Length: 0"), ok(b"", "Content-Encoding: gzip")]
)
def test_failures_release_their_connection_slot(answer: bytes | Callable[[Exchange], None]) -> None:
    with serving(answer) as bad, serving(ok()), Fetcher(timed(timeout_s=20, connections_per_host=1)) as fetcher:
        for _ in range(5):
            with pytest.raises(PhotoFailure):
                fetcher.fetch(bad.url())


def test_failed_names_release_their_connection_slot() -> None:
    with Fetcher(timed(connections_per_host=1), resolve=Names({"bad.test": [["10.0.0.1"]]})) as fetcher:
        for name in ("bad.test", "unknown.test") * 3:
            with pytest.raises(PhotoFailure):
                fetcher.fetch(f"http://{name}/")


class Kept:
    """The real connect, which records every socket it opened."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def __call__(self, address: Address, port: int, timeout_s: float) -> socket.socket:
        self.sockets.append(system_connect(address, port, timeout_s))
        return self.sockets[-1]

    @property
    def open_now(self) -> int:
        return sum(sock.fileno() != -1 for sock in self.sockets)


def test_no_failure_leaves_a_connection_open() -> None:
    kept = Kept()
    answers = {f"/{n}": answer for n, (answer, _) in enumerate(BROKEN.values())}
    settings = timed(timeout_s=20, max_bytes=50_000, connections_per_host=2)
    with serving(answers) as server, Fetcher(settings, connect=kept) as fetcher:
        for path in answers:
            with pytest.raises(PhotoFailure):
                fetcher.fetch(server.url(path), expected_bytes=1)
            assert kept.open_now <= 1
        with pytest.raises(PhotoFailure):
            fetcher.fetch(server.url("/unknown"))
    assert len(kept.sockets) > len(answers) / 2
    assert kept.open_now == 0


def test_a_body_in_millions_of_one_byte_chunks_is_refused_long_before_its_end() -> None:
    sent = 0

    def endless(exchange: Exchange) -> None:
        nonlocal sent
        exchange.send(head(200, "Transfer-Encoding: chunked"))
        while not exchange.stop.is_set():
            exchange.send(b"1\r\nx\r\n" * 10_000)
            sent += 60_000

    with (
        serving(endless) as server,
        Fetcher(timed(timeout_s=30)) as fetcher,
        pytest.raises(PhotoFailure, match="too_large: sent in chunks of a few bytes"),
    ):
        fetcher.fetch(server.url())
    # Without a bound it would be six times max_bytes; the sockets' buffers count here too.
    assert sent < FetchSettings().max_bytes


ENDLESS = {
    "100 Continue": (b"", head(100, "X: " + "x" * 60_000)),
    "trailers": (head(200, "Transfer-Encoding: chunked") + b"5\r\nabcde\r\n0\r\n", b"X: " + b"x" * 60_000 + b"\r\n"),
    "a chunk of -1 bytes": (head(200, "Transfer-Encoding: chunked") + b"-1\r\n", bytes(60_000)),
    "body": (head(200), bytes(60_000)),
    "body of an error": (head(500), bytes(60_000)),
    "header lines": (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 60_000 + b"\r\n"),
}


@pytest.mark.parametrize(("start", "again"), ENDLESS.values(), ids=ENDLESS.keys())
def test_endless_responses_are_cut_off_early(start: bytes, again: bytes) -> None:
    sent = 0

    def endless(exchange: Exchange) -> None:
        nonlocal sent
        exchange.send(start)
        while not exchange.stop.is_set():
            exchange.send(again)
            sent += len(again)

    with (
        serving(endless) as server,
        Fetcher(timed(timeout_s=5, max_bytes=2_000_000)) as fetcher,
        pytest.raises(PhotoFailure) as caught,
    ):
        fetcher.fetch(server.url())
    assert caught.value.code in ("too_large", "http_5xx", "connection")
    # The received bytes, and those in the sockets' buffers.
    assert sent < 20_000_000


def test_small_chunks_within_the_framing_limit_pass() -> None:
    body = b"\xff\xd8\xff" + bytes(200_000)
    with (
        serving(chunked(*(body[at : at + 64] for at in range(0, len(body), 64)))) as server,
        Fetcher(timed(timeout_s=30)) as fetcher,
    ):
        assert fetcher.fetch(server.url()).data == body


class Banning:
    """A host that refuses every request from the ``ban``-th on, and always refuses /private."""

    def __init__(self, ban: int, status: int = 403) -> None:
        self.asked, self.ban, self.status = 0, ban, status

    def __call__(self, exchange: Exchange) -> None:
        self.asked += 1
        refused = self.asked >= self.ban or exchange.path == "/private"
        exchange.send(head(self.status, "Content-Length: 0") if refused else ok())


def outcomes(fetcher: Fetcher, urls: list[str]) -> list[str]:
    return [together(fetcher, [url])[0] for url in urls]


def test_photos_refused_by_a_host_that_bans_us_are_tried_later() -> None:
    host = Banning(ban=3)
    with serving(host) as server, Fetcher(timed(timeout_s=20)) as fetcher:
        assert outcomes(fetcher, [server.url(f"/{n}") for n in range(6)]) == ["photo"] * 2 + ["http_429"] * 4
        with pytest.raises(PhotoFailure) as told:
            fetcher.fetch(server.url("/9"))
    assert told.value.detail == f"http://127.0.0.1:{server.port} answered 403, also to a photo that it served before"
    assert server.paths.count("/1") == 2, "a photo that it served, once more, shows the ban"
    assert host.asked == 8


def test_a_photo_that_is_refused_by_itself_is_not_tried_again() -> None:
    with serving(Banning(ban=99)) as server, Fetcher(timed(timeout_s=20)) as fetcher:
        urls = [server.url(path) for path in ("/private", "/1", "/private", "/2")]
        assert outcomes(fetcher, urls) == ["http_4xx", "photo", "http_4xx", "photo"]


def test_a_host_that_never_served_anything_is_not_asked_twice() -> None:
    host = Banning(ban=1)
    with serving(host) as server, Fetcher(timed(timeout_s=20)) as fetcher:
        assert outcomes(fetcher, [server.url("/1"), server.url("/2")]) == ["http_4xx"] * 2
    assert host.asked == 2

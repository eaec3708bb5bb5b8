"""Canary secrets in every part of a download that can hold one: the fetcher's results must not contain any."""

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from cropline.config.settings import FetchSettings
from cropline.core.crop_options import FetchOptions
from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.fetch import Fetcher
from tests.unit.fugue_jobs.fetching.fetch_servers import Answer, Exchange, Names, certificates, head, ok, serving

CANARY = "canary7f3a"
SIGNED = f"/{CANARY}/photo.jpg?X-Amz-Signature={CANARY}&token={CANARY}#{CANARY}"


def secretive(**changes: object) -> FetchOptions:
    return FetchSettings.model_validate(
        {
            "allow_loopback": True,
            "timeout_s": 1,
            "max_bytes": 50_000,
            "token": CANARY,
            "token_host": "127.0.0.1",
            **changes,
        }
    ).options


def chain(error: BaseException) -> Iterator[BaseException]:
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is not None:
            yield current
            waiting += [current.__cause__, current.__context__]


def everything(failure: PhotoFailure) -> str:
    told = [*traceback.format_exception(failure), failure.detail]
    for error in chain(failure):
        told += [str(error), repr(error), repr(error.args), repr(vars(error)), *getattr(error, "__notes__", [])]
    return "\n".join(told)


def records(caplog: pytest.LogCaptureFixture) -> str:
    formatter = logging.Formatter("%(name)s %(message)s")
    return "\n".join(formatter.format(record) + repr(record.args) + repr(record.msg) for record in caplog.records)


def hang_up(data: bytes) -> Answer:
    def answer(exchange: Exchange) -> None:
        exchange.hang_up(data)

    return answer


# Every header and body holds the canary, so that an error which quotes any of them is detected.
HEADERS = (f"Location: http://user:{CANARY}@{CANARY}.test/?{CANARY}", f"Set-Cookie: {CANARY}", f"X-{CANARY}: {CANARY}")
BODY = (CANARY * 20).encode()
FAILING: dict[str, Answer] = {
    "refused": head(403, f"Content-Length: {len(BODY)}", *HEADERS) + BODY,
    "reason phrase": f"HTTP/1.1 404 {CANARY}\r\nContent-Length: 0\r\n\r\n".encode(),
    "busy": head(429, f"Retry-After: {CANARY}", "Content-Length: 0"),
    "redirect to a user name": head(302, HEADERS[0], "Content-Length: 0"),
    "redirect to nowhere": head(302, f"Location: {CANARY}://{CANARY}/", "Content-Length: 0"),
    "redirect in a circle": head(302, f"Location: /{CANARY}?{CANARY}", "Content-Length: 0"),
    "cut short": hang_up(head(200, "Content-Length: 9999", *HEADERS) + BODY),
    "cut in a chunk": hang_up(head(200, "Transfer-Encoding: chunked") + b"fff\r\n" + BODY),
    "nonsense for a chunk": hang_up(head(200, "Transfer-Encoding: chunked") + BODY + b"\r\n"),
    "encoded": ok(BODY, f"Content-Encoding: {CANARY}"),
    "too large": head(200, "Content-Length: 50001", *HEADERS),
    "not HTTP": hang_up(BODY + b"\r\n\r\n"),
    "status is text": hang_up(f"HTTP/1.1 {CANARY}\r\n\r\n".encode()),
    "no answer": hang_up(b""),
    "two lengths": hang_up(head(200, "Content-Length: 5", "Content-Length: 6", *HEADERS) + b"12345"),
    "broken headers": hang_up(f"HTTP/1.1 200 OK\r\nX: 1\r\n {CANARY}\r\n{CANARY} {CANARY}\r\nY: {CANARY}\r\n\r\n".encode() + BODY),
    "too many headers": hang_up(head(200, *[f"X-{CANARY}-{n}: {CANARY}" for n in range(200)])),
    "endless header": hang_up(f"HTTP/1.1 200 OK\r\nX: {CANARY * 9000}".encode()),
    "length and chunks": hang_up(head(200, "Content-Length: 9", "Transfer-Encoding: chunked", *HEADERS) + BODY),
    "silent": lambda exchange: exchange.drip(BODY, every_s=0.4),
    "another body": ok(BODY),
}  # fmt: skip


@pytest.mark.parametrize("answer", FAILING.values(), ids=FAILING.keys())
def test_no_failure_and_no_log_line_holds_a_secret(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        serving(answer) as server,
        Fetcher(secretive(token_host=f"127.0.0.1:{server.port}")) as fetcher,
        pytest.raises(PhotoFailure) as caught,
    ):
        fetcher.fetch(server.url(SIGNED), expected_bytes=3, expected_sha256=CANARY)
    assert CANARY in server.exchanges[0].path
    assert server.exchanges[0].headers["authorization"] == f"Bearer {CANARY}"
    assert CANARY not in everything(caught.value)
    assert list(chain(caught.value)) == [caught.value]
    assert any(record.name == "urllib3.connectionpool" for record in caplog.records)
    assert CANARY not in records(caplog)


def test_a_fetch_that_works_logs_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(ok(BODY, *HEADERS)) as server, Fetcher(secretive()) as fetcher:
        photo = fetcher.fetch(server.url(SIGNED))
    assert '"GET' in records(caplog)
    assert CANARY not in records(caplog)
    assert CANARY not in repr(photo)


UNREACHED = {
    "user name": f"http://user:{CANARY}@127.0.0.1/",
    "host alone": f"http://{CANARY}.test\\@127.0.0.1/",
    "no scheme": f"{CANARY}",
    "blank": f"http://127.0.0.1/ {CANARY}",
    "not a name": f"http://{CANARY}%20/",
    "private": f"http://10.0.0.1{SIGNED}",
    "not listed": f"http://127.0.0.2{SIGNED}",
    "private name": f"http://private.test{SIGNED}",
    "unknown name": f"http://unknown.test{SIGNED}",
    "nobody listens": f"http://[::1]:1{SIGNED}",
}


@pytest.mark.parametrize("url", UNREACHED.values(), ids=UNREACHED.keys())
def test_no_refusal_before_a_connection_holds_a_secret(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    listed = ("127.0.0.1", "10.0.0.1", "[::1]", "private.test", "unknown.test")
    names = Names({"private.test": [["10.0.0.1"]]})
    with Fetcher(secretive(allowed_hosts=listed), resolve=names) as fetcher, pytest.raises(PhotoFailure) as caught:
        fetcher.fetch(url)
    assert CANARY not in everything(caught.value) + records(caplog)
    assert list(chain(caught.value)) == [caught.value]


def test_no_tls_failure_holds_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, context = certificates(tmp_path, f"{CANARY}.test")
    with serving(ok(), tls=context) as server, Fetcher(secretive()) as fetcher, pytest.raises(PhotoFailure) as caught:
        fetcher.fetch(server.url(SIGNED))
    assert caught.value.code == "tls"
    assert CANARY not in everything(caught.value) + records(caplog)
    assert list(chain(caught.value)) == [caught.value]


def test_a_caller_that_is_handling_an_error_keeps_its_own_context() -> None:
    with Fetcher(secretive()) as fetcher:
        try:
            raise KeyError("the caller's")
        except KeyError:
            with pytest.raises(PhotoFailure) as caught:
                fetcher.fetch(f"http://10.0.0.1{SIGNED}")
    assert CANARY not in everything(caught.value)

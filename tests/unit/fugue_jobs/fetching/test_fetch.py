"""Fetching from real servers that behave well and badly: one row per behaviour, each with its one outcome."""

import email.utils
import gzip
import hashlib
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from cropline.config.settings import FetchSettings
from cropline.core.crop_options import FetchOptions
from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.answers import MAX_RETRY_AFTER_S
from fugue_jobs.fetching.fetch import Fetcher, Photo
from tests.unit.fugue_jobs.fetching.fetch_servers import PHOTO, Answer, Exchange, Names, chunked, head, ok, serving

SHA = hashlib.sha256(PHOTO).hexdigest()
HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"


def demo(**changes: object) -> FetchOptions:
    return FetchSettings.model_validate({"allow_loopback": True, "timeout_s": 10, **changes}).options


def refused(fetcher: Fetcher, url: str, **expected: object) -> PhotoFailure:
    with pytest.raises(PhotoFailure) as caught:
        fetcher.fetch(url, **expected)  # type: ignore[arg-type]
    return caught.value


def hang_up(data: bytes) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.hang_up(data)


WELL: dict[str, Answer] = {
    "length": ok(),
    "chunked": chunked(PHOTO[:1], PHOTO[1:5000], PHOTO[5000:]),
    "chunked with extensions and trailers": head(200, "Transfer-Encoding: Chunked")
    + b"%x;a=b\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(PHOTO), PHOTO),
    "until the connection ends": hang_up(head(200) + PHOTO),
    "HTTP/1.0": hang_up(b"HTTP/1.0 200 OK\r\n\r\n" + PHOTO),
    "length and then hung up": hang_up(ok()),
    "identity said": ok(PHOTO, "Content-Encoding: identity"),
    "after 100 Continue": head(100) + ok(),
    "cookies and a wrong type": ok(PHOTO, "Set-Cookie: a=b", "Content-Type: text/html"),
}


@pytest.mark.parametrize("answer", WELL.values(), ids=WELL.keys())
@pytest.mark.parametrize("declared", [{}, {"expected_bytes": len(PHOTO), "expected_sha256": SHA.upper()}])
def test_a_whole_body_arrives_as_it_was_sent(answer: Answer, declared: dict[str, object]) -> None:
    with serving(answer) as server, Fetcher(demo()) as fetcher:
        photo = fetcher.fetch(server.url(), **declared)  # type: ignore[arg-type]
    assert photo == Photo(PHOTO, SHA)


def test_the_request_is_plain_and_sends_the_manifests_url_unchanged() -> None:
    with serving(ok()) as server, Fetcher(demo()) as fetcher:
        fetcher.fetch(server.url("/a/../b%2Fc//d.jpg?X-Sig=a%2Bb%7E~&e=1#part"))
    (exchange,) = server.exchanges
    assert exchange.path == "/a/../b%2Fc//d.jpg?X-Sig=a%2Bb%7E~&e=1"
    assert exchange.headers == {
        "host": f"127.0.0.1:{server.port}", "user-agent": "cropline", "accept": "*/*", "accept-encoding": "identity",
    }  # fmt: skip


STATUSES = [
    (429, "http_429"), (500, "http_5xx"), (502, "http_5xx"), (503, "http_5xx"), (599, "http_5xx"), (404, "http_404"),
    (410, "http_404"), (400, "http_4xx"), (401, "http_4xx"), (403, "http_4xx"), (416, "http_4xx"), (451, "http_4xx"),
    (408, "timeout"), (202, "http_other"), (204, "http_other"), (206, "http_other"), (300, "http_other"),
    (304, "http_other"), (305, "http_other"), (600, "http_other"), (999, "http_other"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code"), STATUSES)
def test_every_status_but_200_ends_with_its_code(status: int, code: str) -> None:
    with serving(head(status, "Content-Length: 0")) as server, Fetcher(demo()) as fetcher:
        failure = refused(fetcher, server.url())
    assert (failure.code, failure.retry_after_s) == (code, None)
    assert str(status) in failure.detail


BROKEN: dict[str, tuple[Answer, str]] = {
    "fewer bytes than the length": (hang_up(ok()[:-1]), "truncated"),
    "no byte of the length": (hang_up(head(200, "Content-Length: 9")), "truncated"),
    "chunks end early": (hang_up(chunked(PHOTO, end=b"")), "truncated"),
    "a chunk ends early": (hang_up(chunked(PHOTO, end=b"ff\r\nabc")), "truncated"),
    "chunk size is nonsense": (hang_up(chunked(PHOTO, end=b"zz\r\nabc")), "truncated"),
    "gzip": (ok(gzip.compress(bytes(20_000_000)), "Content-Encoding: gzip"), "encoded_body"),
    "deflate": (ok(zlib.compress(PHOTO), "Content-Encoding: DEFLATE"), "encoded_body"),
    "twice encoded": (ok(PHOTO, "Content-Encoding: identity, gzip"), "encoded_body"),
    "unknown coding": (ok(PHOTO, "Content-Encoding: zstd"), "encoded_body"),
    "gzip in transfer": (head(200, "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", "encoded_body"),
    "too long by its length": (head(200, "Content-Length: 50001"), "too_large"),
    "far too long by its length": (head(200, f"Content-Length: {10**17}"), "too_large"),
    "too long without saying so": (hang_up(head(200) + bytes(50_001)), "too_large"),
    "too long in chunks": (chunked(bytes(25_000), bytes(25_001)), "too_large"),
    "two lengths": (hang_up(head(200, "Content-Length: 5", "Content-Length: 6") + b"12345"), "connection"),
    "not HTTP": (hang_up(b"SSH-2.0-OpenSSH_9.6\r\n"), "connection"),
    "HTTP/0.9, a body and no head": (hang_up(PHOTO), "connection"),
    "HTTP/2 in clear": (hang_up(b"HTTP/2 200\r\n\r\n" + PHOTO), "connection"),
    "early hints instead of an answer": (hang_up(head(103, "Link: </a.css>") + ok()), "http_other"),
    "switching protocols": (hang_up(head(101, "Upgrade: h2c") + PHOTO), "http_other"),
    "a chunk extension of 70 KB": (
        hang_up(head(200, "Transfer-Encoding: chunked") + b"5;a=" + bytes(70_000) + b"\r\n"),
        "connection",
    ),
    "a chunk size beyond all bounds": (
        hang_up(head(200, "Transfer-Encoding: chunked") + b"f" * 300 + b"\r\n"),
        "truncated",
    ),
    "a chunk of -1 bytes, which reads to the end": (
        hang_up(head(200, "Transfer-Encoding: chunked") + b"-1\r\n" + PHOTO),
        "truncated",
    ),
    "a negative chunk size": (
        hang_up(head(200, "Transfer-Encoding: chunked") + b"-5\r\nabcde\r\n0\r\n\r\n"),
        "connection",
    ),
    "a negative length": (hang_up(head(200, "Content-Length: -5") + bytes(50_001)), "too_large"),
    "a length that is none": (hang_up(head(200, "Content-Length: 0x10") + bytes(50_001)), "too_large"),
    "hangs up at once": (hang_up(b""), "connection"),
    "hangs up in the head": (hang_up(b"HTTP/1.1 200 OK\r\nContent-"), "truncated"),
    "endless header line": (hang_up(b"HTTP/1.1 200 OK\r\nX: " + bytes(70_000)), "connection"),
    "too many headers": (hang_up(head(200, *[f"X-{n}: 1" for n in range(200)]) + PHOTO), "connection"),
}


@pytest.mark.parametrize(("answer", "code"), BROKEN.values(), ids=BROKEN.keys())
def test_every_broken_answer_ends_with_its_code(answer: Answer, code: str) -> None:
    with serving(answer) as server, Fetcher(demo(max_bytes=50_000)) as fetcher:
        assert refused(fetcher, server.url(), expected_bytes=len(PHOTO)).code == code


def test_a_body_of_exactly_the_limit_passes() -> None:
    with serving(ok()) as server, Fetcher(demo(max_bytes=len(PHOTO))) as fetcher:
        assert fetcher.fetch(server.url()).data == PHOTO


FLIPPED = PHOTO[:500] + bytes([PHOTO[500] ^ 1]) + PHOTO[501:]
DECLARED: dict[str, tuple[Answer, dict[str, object], str]] = {
    "one bit differs": (ok(FLIPPED), {"expected_bytes": len(PHOTO), "expected_sha256": SHA}, "hash_mismatch"),
    "one bit of the first byte differs": (ok(b"\x7f" + PHOTO[1:]), {"expected_sha256": SHA}, "hash_mismatch"),
    "another length, same framing": (ok(PHOTO[:-1]), {"expected_bytes": len(PHOTO)}, "hash_mismatch"),
    "fewer chunks than declared, ended well": (chunked(PHOTO[:5000]), {"expected_bytes": len(PHOTO), "expected_sha256": SHA}, "truncated"),
    "longer than declared": (hang_up(head(200) + PHOTO), {"expected_bytes": 5}, "hash_mismatch"),
    "declared hash is no hash": (ok(), {"expected_sha256": "md5:0"}, "hash_mismatch"),
    "cut where only the manifest can tell": (hang_up(head(200) + PHOTO[:-1]), {"expected_bytes": len(PHOTO)}, "truncated"),
    "cut to nothing where the hash tells": (hang_up(head(200)), {"expected_sha256": SHA}, "truncated"),
    "an error page with 200": (ok(HTML), {"expected_sha256": SHA}, "not_a_picture"),
    "an error page, cut, with 200": (hang_up(head(200) + HTML), {"expected_bytes": 9000}, "not_a_picture"),
    "JSON with 200": (ok(b'{"error": "\xc3\xa9"}' * 40), {"expected_sha256": SHA}, "not_a_picture"),
    "text that our look cuts in a character": (ok(b"ab" + "é".encode() * 400), {"expected_sha256": SHA}, "not_a_picture"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "expected", "code"), DECLARED.values(), ids=DECLARED.keys())
def test_what_the_manifest_declares_is_checked(answer: Answer, expected: dict[str, object], code: str) -> None:
    with serving(answer) as server, Fetcher(demo()) as fetcher:
        assert refused(fetcher, server.url(), **expected).code == code


@pytest.mark.parametrize(
    "start",
    [
        b"\x89PNG\r\n\x1a\n\0\0",
        b"RIFF\x10\0\0\0WEBP",
        b"GIF89a\x01\0",
        b"BM\x36\0\0\0",
        b"II*\0",
        b"\0\0\0\x1cftypavif",
    ],
)
def test_no_kind_of_picture_is_taken_for_text(start: bytes) -> None:
    with serving(ok(start + bytes(300))) as server, Fetcher(demo()) as fetcher:
        assert refused(fetcher, server.url(), expected_sha256=SHA).code == "hash_mismatch"


def test_an_error_page_passes_when_nothing_is_declared_and_pixels_judges_it() -> None:
    with serving(ok(HTML)) as server, Fetcher(demo()) as fetcher:
        assert fetcher.fetch(server.url()).data == HTML


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7), ("0", 0), (" 12 ", 12), ("99999999", MAX_RETRY_AFTER_S), ("9" * 5000, MAX_RETRY_AFTER_S),
        ("Fri, 01 Jan 2100 00:00:00 GMT", MAX_RETRY_AFTER_S), ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", 0), ("Wed Oct 21 07:28:00 2015", 0),
        ("-5", None), ("1.5", None), ("soon", None), ("", None), ("٣", None), ("Fri, 99 Zzz 2026 25:61:61 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_within_reason(status: int, value: str, seconds: int | None) -> None:
    answer = head(status, f"Retry-After: {value.encode().decode('latin-1')}", "Content-Length: 0")
    with serving(answer) as server, Fetcher(demo()) as fetcher:
        assert refused(fetcher, server.url()).retry_after_s == seconds


def test_retry_after_as_a_date_counts_from_now() -> None:
    answer = head(
        503, f"Retry-After: {email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)}"
    )
    with serving(hang_up(answer)) as server, Fetcher(demo()) as fetcher:
        started = time.monotonic()
        seconds = refused(fetcher, server.url()).retry_after_s
        took = time.monotonic() - started
    assert seconds is not None
    assert 598 - took <= seconds <= 600


@pytest.mark.parametrize("status", [404, 500])
def test_retry_after_counts_only_where_it_has_a_meaning(status: int) -> None:
    with serving(head(status, "Retry-After: 7", "Content-Length: 0")) as server, Fetcher(demo()) as fetcher:
        assert refused(fetcher, server.url()).retry_after_s is None


def test_one_connection_serves_many_photos_of_a_host() -> None:
    names = Names({"camera.test": [["127.0.0.1"]]})
    answers: dict[str, Answer] = {
        "/a": ok(), "/b": chunked(PHOTO), "/gone": head(404, "Content-Length: 5") + b"gone!",
        "/moved": head(302, "Location: /a", "Content-Length: 5") + b"moved",
    }  # fmt: skip
    with serving(answers) as server, Fetcher(demo(), resolve=names) as fetcher:
        for path in ("/a", "/b", "/a", "/moved", "/a"):
            fetcher.fetch(server.url(path, host="camera.test"))
        refused(fetcher, server.url("/gone", host="camera.test"))
        fetcher.fetch(server.url("/a", host="camera.test"))
    assert server.connections == 1
    assert names.asked == ["camera.test"]


def test_a_connection_with_an_unread_body_is_not_used_again() -> None:
    answers: dict[str, Answer] = {"/big": head(200, "Content-Length: 99999999") + b"x" * 1000, "/a": ok()}
    with serving(answers) as server, Fetcher(demo()) as fetcher:
        assert refused(fetcher, server.url("/big")).code == "too_large"
        assert fetcher.fetch(server.url("/a")).data == PHOTO
    assert server.connections == 2


@pytest.mark.parametrize("status", [101, 103, 204, 304])
def test_bytes_after_a_bodiless_response_are_not_the_next_photo(status: int) -> None:
    """If a server or proxy sends a body where none is allowed, each photo would be taken for the next one."""
    answers: dict[str, Answer] = {"/a": head(status, "Content-Length: 0"), "/b": ok()}
    with serving(answers) as server, Fetcher(demo()) as fetcher:
        assert refused(fetcher, server.url("/a")).code == "http_other"
        assert fetcher.fetch(server.url("/b")).data == PHOTO
    assert server.connections == 2


def test_bytes_after_a_body_are_not_the_next_photo() -> None:
    answers: dict[str, Answer] = {"/a": ok() + ok(b"\xff\xd8 stray"), "/b": ok(b"\xff\xd8 own")}
    with serving(answers) as server, Fetcher(demo()) as fetcher:
        for path, body in (("/a", PHOTO), ("/b", b"\xff\xd8 own")):
            assert fetcher.fetch(server.url(path)).data == body


def test_a_kept_connection_that_the_host_closes_unanswered_is_replaced_once() -> None:
    def every_second(exchange: Exchange) -> None:
        if sum(other.connection == exchange.connection for other in server.exchanges) == 1:
            exchange.send(ok())
        else:
            exchange.hang_up()

    with serving(every_second) as server, Fetcher(demo()) as fetcher:
        for _ in range(3):
            assert fetcher.fetch(server.url()).data == PHOTO
    assert server.connections == 3


def test_a_host_that_never_answers_is_not_asked_again() -> None:
    with serving(hang_up(b"")) as server, Fetcher(demo()) as fetcher:
        assert refused(fetcher, server.url()).code == "connection"
    assert len(server.exchanges) == 1


def test_a_new_connection_in_the_place_of_a_kept_one_is_not_taken_for_stale() -> None:
    def only_once(exchange: Exchange) -> None:
        exchange.hang_up(ok() if len(server.exchanges) == 1 else b"")

    with serving(only_once) as server, Fetcher(demo()) as fetcher:
        fetcher.fetch(server.url())
        assert refused(fetcher, server.url()).code == "connection"
    assert len(server.exchanges) == 2


def test_cookies_are_not_kept() -> None:
    with serving(ok(PHOTO, "Set-Cookie: session=1; Path=/")) as server, Fetcher(demo()) as fetcher:
        fetcher.fetch(server.url())
        fetcher.fetch(server.url())
    assert "cookie" not in server.exchanges[1].headers


def test_proxies_and_netrc_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    netrc = tmp_path / "netrc"  # type: ignore[operator]
    netrc.write_text("default login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(ok(b"from the proxy")) as proxy, serving(ok()) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Fetcher(demo()) as fetcher:
            assert fetcher.fetch(server.url()).data == PHOTO
    assert proxy.connections == 0
    assert "authorization" not in server.exchanges[0].headers


SIGNED = "/1.jpg?X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-Signature=canary"
EXPIRED_TOKEN = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>canary</Message></Error>"
OF_SIGNED = [
    (401, b"", "url_expired"), (403, b"", "url_expired"), (410, b"", "url_expired"), (400, EXPIRED_TOKEN, "url_expired"),
    (400, b"<Code>InvalidArgument</Code>", "http_4xx"), (404, b"", "http_404"), (429, b"", "http_429"),
    (503, b"", "http_5xx"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "code"), OF_SIGNED)
def test_a_signed_url_that_is_refused_has_expired(status: int, body: bytes, code: str) -> None:
    with serving(head(status, f"Content-Length: {len(body)}") + body) as server, Fetcher(demo()) as fetcher:
        failure = refused(fetcher, server.url(SIGNED))
    assert failure.code == code
    assert "canary" not in failure.detail


def test_an_unsigned_url_with_a_body_about_tokens_is_refused_for_good() -> None:
    answer = head(400, f"Content-Length: {len(EXPIRED_TOKEN)}") + EXPIRED_TOKEN
    with serving(answer) as server, Fetcher(demo()) as fetcher:
        assert refused(fetcher, server.url("/1.jpg?w=800")).code == "http_4xx"


def test_a_redirect_to_a_signed_url_that_is_refused_has_expired() -> None:
    to = SIGNED.replace("/1.jpg", "/2.jpg")
    answers: dict[str, Answer] = {
        "/1.jpg": head(302, f"Location: {to}", "Content-Length: 0"),
        "/2.jpg": head(403, "Content-Length: 0"),
    }
    with serving(answers) as server, Fetcher(demo()) as fetcher:
        assert refused(fetcher, server.url("/1.jpg")).code == "url_expired"

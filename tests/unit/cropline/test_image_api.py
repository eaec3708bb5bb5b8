"""The listing is read to its end, within bounds, and every way in which it can go wrong has its own error."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cropline.errors import ApiRefused, ApiUnavailable, SettingsError
from cropline.image_api import pages
from cropline.settings import ApiSettings

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[dict[str, list[str]], dict[str, str]], Answer]


class Listing:
    """A real HTTP server whose answers a test scripts."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, list[str]], dict[str, str]]] = []
        self.script: Script = lambda query, headers: page([])
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                headers = dict(self.headers.items())
                outer.requests.append((query, headers))
                status, extra, body = outer.script(query, headers)
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

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


def page(items: Any, cursor: str | None = None, **headers: str) -> Answer:
    return 200, headers, json.dumps({"images": items, "next_cursor": cursor}).encode()


@pytest.fixture
def listing() -> Iterator[Listing]:
    server = Listing()
    yield server
    server.close()


def settings(listing: Listing, **changes: Any) -> ApiSettings:
    return ApiSettings(**({"url": listing.url, "token": "canary-token", "retries": 1, "page_size": 2} | changes))


def test_pages_are_read_to_the_end_with_token_and_bounds(listing: Listing) -> None:
    listing.script = lambda query, _: {None: page([1, 2], "x"), "x": page([3], None)}[query.get("cursor", [None])[0]]
    assert list(pages(settings(listing), "2026-11-22T00:00:00Z")) == [[1, 2], [3]]
    query, headers = listing.requests[0]
    assert query == {"updated_after": ["2026-11-22T00:00:00Z"], "limit": ["2"]}
    assert headers["Authorization"] == "Bearer canary-token"


@pytest.mark.parametrize("items", [[], [{"id": "only"}], [[1]]])
def test_pages_of_none_one_or_odd_items_come_as_they_are(listing: Listing, items: list[Any]) -> None:
    listing.script = lambda query, _: page(items)
    assert list(pages(settings(listing), "s")) == [items]


def test_a_number_that_is_no_json_spoils_its_row_not_its_page(listing: Listing) -> None:
    listing.script = lambda query, _: (200, {}, b'{"images": [{"x": NaN}, {"x": 1}], "next_cursor": null}')
    [[bad, good]] = list(pages(settings(listing), "s"))
    assert bad["x"] != bad["x"]
    assert good == {"x": 1}


def test_a_cursor_loop_is_refused_not_followed(listing: Listing) -> None:
    listing.script = lambda query, _: page([1], "same")
    with pytest.raises(ApiRefused, match="loop"):
        list(pages(settings(listing), "s"))
    assert len(listing.requests) == 2


def test_a_poll_stops_at_its_bound(listing: Listing) -> None:
    listing.script = lambda query, _: page([1], f"c{len(listing.requests)}")
    assert len(list(pages(settings(listing, max_pages=3), "s"))) == 3
    assert len(listing.requests) == 3


def test_a_busy_api_is_asked_again_after_its_retry_after(listing: Listing) -> None:
    def script(query: dict[str, list[str]], headers: dict[str, str]) -> Answer:
        return (429, {"Retry-After": "1"}, b"") if len(listing.requests) == 1 else page([1])

    listing.script = script
    assert list(pages(settings(listing), "s")) == [[1]]
    assert len(listing.requests) == 2


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        ((500, {}, b"boom canary-body"), ApiUnavailable, "answers 500"),
        ((401, {}, b""), ApiRefused, "answers 401; check CROPLINE_API__TOKEN"),
        ((404, {}, b""), ApiRefused, "answers 404; check CROPLINE_API__IMAGES_PATH"),
        ((200, {}, b"<html>canary-body</html>"), ApiRefused, "not JSON"),
        ((200, {}, b'{"pictures": []}'), ApiRefused, "no 'images'"),
    ],
)
def test_every_failure_has_its_error_and_no_secret(
    listing: Listing, caplog: pytest.LogCaptureFixture, answer: Answer, error: type[Exception], says: str
) -> None:
    caplog.set_level(logging.INFO)
    listing.script = lambda query, _: answer
    with pytest.raises(error, match=says) as caught:
        list(pages(settings(listing), "since-canary"))
    assert caught.value.__context__ is None
    assert "canary" not in str(caught.value) + caplog.text


def test_a_next_page_on_another_host_never_gets_the_token(listing: Listing) -> None:
    other = Listing()
    try:
        link = {"Link": f'<{other.url}/v1/images?page=2>; rel="next"'}
        listing.script = lambda query, _: (200, link, b'{"images": [1]}')
        with pytest.raises(ApiRefused, match="another host"):
            list(pages(settings(listing, paginator="header_link"), "s"))
        assert other.requests == []
    finally:
        other.close()


def test_an_api_that_is_down_is_unavailable() -> None:
    down = Listing()
    down.close()
    with pytest.raises(ApiUnavailable, match="cannot be reached"):
        list(pages(ApiSettings(url=down.url, retries=0), "s"))


@pytest.mark.parametrize("kind", ["page_number", "offset"])
def test_counting_paginators_end_at_an_empty_page(listing: Listing, kind: str) -> None:
    listing.script = lambda query, _: page([1, 2] if len(listing.requests) < 3 else [])
    got = list(pages(settings(listing, paginator=kind), "s"))
    assert [item for some in got for item in some] == [1, 2, 1, 2]


def test_without_an_address_the_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="CROPLINE_API__URL"):
        list(pages(ApiSettings(), "s"))

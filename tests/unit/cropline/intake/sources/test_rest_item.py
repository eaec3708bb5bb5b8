"""One image of the API by its id, in any wrapping and with every kind of error."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from cropline.config.settings import ApiSettings
from cropline.core.errors import ApiError, ApiRefused, ApiUnavailable
from cropline.intake.image_api import since, spans
from cropline.intake.sources.rest_item import items

ITEM = {"id": 7, "url": "https://photos.example/7.jpg?token=canary"}


class Server:
    """A real HTTP server: path -> (status, body)."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization")))
                status, body = outer.answers.get(self.path, (404, {}))
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def server(running: Server) -> Server:
    running.answers, running.asked = {}, []
    return running


def ask(server: Server, *ids: str, **values: Any) -> list[Any]:
    api = {"url": server.url, "item_path": "/v1/images/{image_id}", "retries": 0, "token": "canary-token"} | values
    return list(items(ApiSettings.model_validate(api), ids))


WRAPPED = [
    ITEM,
    [ITEM],
    {"images": [ITEM]},
    {"image": ITEM},
    {"status": "ok", "data": {"image": ITEM}},
    {"images": ITEM},
    {"images": [{"id": 6}, ITEM]},
    {"next_cursor": None, "images": [ITEM]},
]


@pytest.mark.parametrize("body", WRAPPED)
def test_the_item_is_found_however_it_is_wrapped(server: Server, body: Any) -> None:
    server.answers["/v1/images/7"] = (200, body)
    assert ask(server, "7") == [("7", ITEM)]
    assert server.asked == [("/v1/images/7", "Bearer canary-token")]


@pytest.mark.parametrize(
    "body", [{}, [], {"id": 8}, [{"id": 8}], {"images": []}, "7", None, 7, [[ITEM]], {"images": None}]
)
def test_another_image_is_no_answer(server: Server, body: Any) -> None:
    server.answers["/v1/images/7"] = (200, body)
    assert ask(server, "7") == [("7", None)]


def test_an_image_that_is_gone_does_not_end_the_asking(server: Server) -> None:
    server.answers |= {"/v1/images/6": (410, {}), "/v1/images/7": (200, ITEM)}
    assert ask(server, "5", "6", "7") == [("5", None), ("6", None), ("7", ITEM)]


def test_ids_stay_one_segment_of_the_path(server: Server) -> None:
    odd = "a/../b?c=d#e %é"
    server.answers["/v1/images/a%2F..%2Fb%3Fc%3Dd%23e%20%25%C3%A9"] = (200, {"id": odd})
    assert ask(server, odd) == [(odd, {"id": odd})]


REFUSED = [(401, ApiRefused, "TOKEN"), (403, ApiRefused, "TOKEN"), (400, ApiRefused, "ITEM_PATH"), (302, ApiRefused, "redirects"),
           (503, ApiUnavailable, "503"), (429, ApiUnavailable, "429")]  # fmt: skip


@pytest.mark.parametrize(("status", "error", "says"), REFUSED)
def test_a_refusal_is_one_line_without_the_id_or_a_query(
    server: Server, status: int, error: type[ApiError], says: str
) -> None:
    server.answers["/v1/images/secret-id?key=canary"] = (status, {})
    with pytest.raises(error) as told:
        ask(server, "secret-id", item_path="/v1/images/{image_id}?key=canary")
    assert says in str(told.value)
    assert "canary" not in str(told.value)
    assert "secret-id" not in str(told.value)
    assert told.value.__context__ is None


def test_what_is_no_json_and_a_server_that_is_away_are_errors(server: Server) -> None:
    server.answers["/v1/images/7"] = (200, b"<html>")
    with pytest.raises(ApiRefused, match="not JSON"):
        ask(server, "7")
    with pytest.raises(ApiUnavailable, match="cannot be reached"):
        ask(server, "7", url="http://127.0.0.1:9")


@pytest.mark.parametrize("path", ["/v1/images", "v1/{image_id}", "/{image_id}/{image_id}", "/v1/{id}", "/{image_id}#x"])
def test_a_path_that_names_no_image_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="image_id"):
        ApiSettings(item_path=path)


def test_moments_near_each_other_are_listed_once() -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    at = [noon + timedelta(minutes=minutes) for minutes in (60, 0, 5, 9)]
    assert spans(at, timedelta(minutes=10)) == [(at[1], at[3]), (at[0], at[0])]
    assert since(ApiSettings(), noon) == "2026-11-22T11:59:59+00:00"
    assert since(ApiSettings(start="2026-01-01T00:00:00Z"), None) == "2026-01-01T00:00:00Z"

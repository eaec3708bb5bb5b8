"""A real HTTP server on loopback with answers that a test scripts."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[dict[str, list[str]], dict[str, str]], Answer]


class Listing:
    """The server. ``requests``: query and headers of each request; ``bodies``: its body as JSON, or None."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, list[str]], dict[str, str]]] = []
        self.paths: list[str] = []
        self.bodies: list[Any] = []
        self.form_paths: set[str] = set()
        self.script: Script = lambda query, headers: page([])
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                outer.bodies.append(None if self.path in outer.form_paths else json.loads(sent))
                self.do_GET()

            def do_GET(self) -> None:
                outer.paths.append(self.path)
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
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
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

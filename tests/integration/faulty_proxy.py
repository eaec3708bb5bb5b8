"""A real HTTP proxy before an object store, which can break chosen requests: before they arrive, or only their reply.

Belongs here: the transport fault. Does not: any test.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["lost reply", "reset", "503", "slow down"]


class FaultyProxy:
    """Forwards to ``upstream``; the next ``times`` requests of a method whose path holds ``part`` meet the fault."""

    def __init__(self, upstream: str) -> None:
        self.struck = 0
        self._plan: tuple[Fault, str, str, int] | None = None
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = outer.fault_for(self.command, self.path)
                if fault == "reset":
                    self.close_connection = True
                    return
                if fault in ("503", "slow down"):
                    self.answer(503 if fault == "503" else 429, {}, b"<Error><Code>SlowDown</Code></Error>")
                    return
                connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=30)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    response = connection.getresponse()
                    data = response.read()
                finally:
                    connection.close()
                if fault == "lost reply":
                    self.close_connection = True
                    return
                self.answer(response.status, dict(response.getheaders()), data)

            def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                        self.send_header(name, value)
                length = headers.get("Content-Length", str(len(data))) if self.command == "HEAD" else str(len(data))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def strike(self, fault: Fault, method: str, part: str, times: int = 1) -> None:
        with self._lock:
            self._plan, self.struck = (fault, method, part, times), 0

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self._lock:
            if self._plan is None:
                return None
            fault, wanted, part, times = self._plan
            if method != wanted or part not in path or self.struck >= times:
                return None
            self.struck += 1
            return fault


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(upstream)
    thread = threading.Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()

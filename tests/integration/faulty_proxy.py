"""A real HTTP proxy in front of an object store or a collector, which can break chosen requests."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["lost reply", "reset", "500", "503", "slow down", "refused", "refused late", "call", "call late"]
"""What a request meets. ``lost reply``, ``refused late`` and ``call late`` come when it has been carried out, the others
before; ``call`` calls a function of the test and goes on, or is cut off when the function says so (False)."""

_ANSWERS = {"500": 500, "503": 503, "slow down": 429, "refused": 403, "refused late": 403}
_LATE = ("lost reply", "refused late", "call late")


@dataclass
class _Plan:
    fault: Fault
    method: str
    part: str
    times: int
    every: int
    call: Callable[[], bool]
    seen: int = 0


class FaultyProxy:
    """Forwards to ``upstream``; requests that ``strike`` selects get its fault."""

    def __init__(self, upstream: str) -> None:
        self.struck = 0
        self._plan: _Plan | None = None
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # A response in two packets would wait 40 ms between them.
            wbufsize = 1 << 16
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                plan = outer.plan_for(self.command, self.path)
                fault = plan.fault if plan is not None else None
                if fault not in (None, *_LATE) and not self.go_on(plan):
                    return
                connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=30)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    response = connection.getresponse()
                    data = response.read()
                finally:
                    connection.close()
                if fault in _LATE and not self.go_on(plan):
                    return
                self.answer(response.status, dict(response.getheaders()), data)

            def go_on(self, plan: _Plan | None) -> bool:
                """Do what the plan says; return whether the request continues normally."""
                assert plan is not None
                if plan.fault in _ANSWERS:
                    self.answer(_ANSWERS[plan.fault], {}, b"<Error><Code>SlowDown</Code></Error>")
                    return False
                if plan.fault.startswith("call") and plan.call():
                    return True
                self.close_connection = True
                return False

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
                """Suppress the log."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def strike(
        self,
        fault: Fault,
        method: str = "",
        part: str = "",
        times: int = 1,
        every: int = 1,
        call: Callable[[], bool] = bool,
    ) -> None:
        """Break each ``every``-th request of a method whose path contains ``part`` (empty: any), at most ``times``."""
        with self._lock:
            self._plan, self.struck = _Plan(fault, method, part, times, every, call), 0

    def calm(self) -> None:
        """Stop breaking requests."""
        with self._lock:
            self._plan = None

    def plan_for(self, method: str, path: str) -> _Plan | None:
        with self._lock:
            plan = self._plan
            if plan is None or plan.method not in ("", method) or plan.part not in path or self.struck >= plan.times:
                return None
            plan.seen += 1
            if plan.seen % plan.every:
                return None
            self.struck += 1
            return plan


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

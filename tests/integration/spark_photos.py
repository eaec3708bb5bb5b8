"""A photo server that holds photos back until it is released, for tests that act in the middle of a batch."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class HoldingServer:
    """``url("held-7.jpg")`` waits for ``release``; other names are served at once. ``asked`` counts by name."""

    port: int
    photo: bytes
    release: threading.Event = field(default_factory=threading.Event)
    asked: Counter[str] = field(default_factory=Counter)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    @property
    def held(self) -> int:
        """Return the number of requested photos that are held back."""
        return sum(count for name, count in self.asked.items() if name.startswith("held"))


@contextmanager
def holding_server(photo: bytes) -> Iterator[HoldingServer]:
    """Start a server on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            served.asked[name] += 1
            if name.startswith("held"):
                served.release.wait(120)
            try:
                self.send_response(200)
                self.send_header("Content-Length", str(len(photo)))
                self.end_headers()
                self.wfile.write(photo)
            except OSError:
                self.close_connection = True  # the client was killed, as the test intended

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    served = HoldingServer(server.server_port, photo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        served.release.set()
        server.shutdown()
        server.server_close()
        thread.join()

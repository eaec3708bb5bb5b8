"""A small real HTTP proxy on loopback: CONNECT, and whole URLs of plain http. It records what it was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class HttpProxy:
    """``routes``: "host:port" as asked -> the port on loopback that it leads to; others go where they say."""

    port: int
    routes: Mapping[str, int] = field(default_factory=dict)
    user: str = ""
    answer: bytes = b""  # sent to every request instead of an answer of its own
    asked: list[str] = field(default_factory=list)  # request lines, without the version
    heads: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.user + '@' if self.user else ''}127.0.0.1:{self.port}"


@contextmanager
def proxying(routes: Mapping[str, int] | None = None, user: str = "", answer: bytes = b"") -> Iterator[HttpProxy]:
    """Run a proxy; ``user`` is user:password that it demands."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = HttpProxy(listener.getsockname()[1], routes or {}, user, answer)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.settimeout(20)
            threading.Thread(target=_serve, args=(proxy, client), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _serve(proxy: HttpProxy, client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):
        raw = b""
        while b"\r\n\r\n" not in raw:
            more = client.recv(65_536)
            if not more:
                return
            raw += more
        head, _, rest = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        proxy.asked.append(f"{method} {target}")
        proxy.heads.append(head.decode("latin-1"))
        if proxy.answer:
            client.sendall(proxy.answer)
            return
        wanted = f"Proxy-Authorization: Basic {b64encode(proxy.user.encode()).decode()}"
        if proxy.user and wanted not in lines:
            client.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        if method == "CONNECT":
            with _server(proxy, target) as server:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                _relay(client, server)
            return
        url = urlsplit(target)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        # Like real proxies, it writes Host from the URL, and hides its own password from the server.
        kept = [line for line in lines[1:] if not line.lower().startswith(("host:", "proxy-", "connection:"))]
        own = [f"{method} {path} HTTP/1.1", f"Host: {url.netloc}", "Connection: close", *kept, "", ""]
        with _server(proxy, url.netloc if url.port else f"{url.netloc}:80") as server:
            server.sendall("\r\n".join(own).encode("latin-1") + rest)
            _relay(client, server)


def _server(proxy: HttpProxy, asked: str) -> socket.socket:
    host, _, port = asked.rpartition(":")
    if asked in proxy.routes:
        return socket.create_connection(("127.0.0.1", proxy.routes[asked]), 20)
    return socket.create_connection((host.strip("[]"), int(port)), 20)


def _relay(client: socket.socket, server: socket.socket) -> None:
    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    up = threading.Thread(target=pump, args=(client, server), daemon=True)
    up.start()
    pump(server, client)
    up.join()

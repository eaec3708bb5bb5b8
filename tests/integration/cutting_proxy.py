"""A TCP proxy in front of PostgreSQL that cuts a connection at the COMMIT of a chosen transaction.

It cuts either before the COMMIT or before its reply, and parses only enough of the protocol to find a COMMIT.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import parse_qs, urlsplit

Moment = Literal["before", "after"]

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"  # a simple query, as libpq sends it


class CuttingProxy:
    """Listens on loopback and forwards to a server's socket file. ``strike`` selects the one connection that is cut."""

    def __init__(self, url: str) -> None:
        """``url``: the server's SQLAlchemy URL, with its socket's folder as ``host``."""
        (self._folder,) = parse_qs(urlsplit(url).query)["host"]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._plan: tuple[Moment, bytes] | None = None
        self.struck = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def url(self, schema: str) -> str:
        """Return the URL of a schema, through this proxy."""
        port = self._listener.getsockname()[1]
        return (
            f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres?sslmode=disable&gssencmode=disable"
            f"&options=-csearch_path%3D{schema}"
        )

    def strike(self, moment: Moment, statement: str) -> None:
        """Cut the next transaction that contains this text."""
        self._plan, self.struck = (moment, statement.encode()), 0

    def close(self) -> None:
        _cut(self._listener, *self._open)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._open):
            end.close()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._folder}/.s.PGSQL.5432")
            self._open += [client, server]
            deaf = threading.Event()
            self._start(self._requests, client, server, deaf)
            self._start(self._replies, client, server, deaf)

    def _requests(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        said = b""  # since the last COMMIT
        while data := _read(client):
            said += data
            if said.endswith(_COMMIT):
                moment = self._moment(said)
                said = b""
                if moment == "before":
                    break
                if moment == "after":
                    deaf.set()
            if not _sent(server, data):
                break
        _cut(client, server)

    def _moment(self, said: bytes) -> Moment | None:
        if self._plan is None or self._plan[1] not in said:
            return None
        (moment, _), self._plan = self._plan, None
        self.struck += 1
        return moment

    def _replies(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        while data := _read(server):
            if deaf.is_set():  # the COMMIT was executed; its reply is dropped here
                break
            if not _sent(client, data):
                break
        _cut(client, server)


def _read(end: socket.socket) -> bytes:
    try:
        return end.recv(65536)
    except OSError:
        return b""


def _sent(end: socket.socket, data: bytes) -> bool:
    """Send it on. Return False when that end was cut meanwhile, by its other thread or by its owner."""
    try:
        end.sendall(data)
    except OSError:
        return False
    return True


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # already closed


@contextmanager
def cutting_proxy(url: str) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()

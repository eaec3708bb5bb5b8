"""Sockets, TLS and pooled connections that dial only checked addresses and never outlive a deadline.

urllib3's timeouts bound a single recv, so a slow drip of bytes lasts for ever. Here the socket has the deadline and
limits every recv to the time that is left: headers, chunk sizes, bodies and TLS records all end with it.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.client import RemoteDisconnected
from ipaddress import ip_address
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from cropline.core.failures import PhotoFailure
from cropline.core.proxy import Proxy
from fugue_jobs.fetching.addresses import Address, Opened, Resolver, Target, checked_addresses

# The number of hosts whose idle connections are kept.
KEPT_HOSTS = 32
# An error is raised at once: Fetcher decides what is asked again.
_NEVER_AGAIN = urllib3.Retry(0, read=False)


class ReceivedTooMuch(OSError):
    """A response is longer than any photo needs, in its headers, 1xx responses, chunk sizes or trailers."""


class DeadlineSocket(socket.socket):
    """A TCP socket whose every recv ends at ``deadline`` (monotonic seconds) and counts what it has ``received``."""

    deadline = inf
    received = 0
    most_received = inf

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_left(self.deadline))
        count = super().recv_into(*args, **kwargs)
        self.received = _counted(self.received + count, self.most_received)
        return count


class DeadlineTlsSocket(ssl.SSLSocket):
    """The same over TLS. A close without a TLS close_notify is an error, not the end of the body."""

    deadline = inf
    received = 0
    most_received = inf

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.suppress_ragged_eofs = False
        self.settimeout(_left(self.deadline))
        count = super().recv_into(*args, **kwargs)
        self.received = _counted(self.received + count, self.most_received)
        return count


def _left(deadline: float) -> float | None:
    if deadline == inf:
        return None
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("deadline")
    return left


def _counted(received: int, most: float) -> int:
    if received > most:
        raise ReceivedTooMuch
    return received


class StaleConnection(Exception):
    """A kept connection was closed before it answered. The request may be sent again on another one."""


class Connect(Protocol):
    """Opens a TCP connection to one address, or raises OSError. Tests replace the network by a fake of it."""

    def __call__(self, address: Address, port: int, timeout_s: float) -> socket.socket: ...


def system_connect(address: Address, port: int, timeout_s: float) -> socket.socket:
    sock = DeadlineSocket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(timeout_s)
        sock.connect((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


class Dial(Protocol):
    """Opens a socket for one host, which TLS is then spoken on if ``tls``, or raises PhotoFailure."""

    def dial(self, host: str, port: int, timeout_s: float, *, tls: bool) -> socket.socket: ...


@dataclass(frozen=True)
class Dialler:
    """Resolves a name once, checks every answer, and connects to a checked address: nothing can change in between."""

    resolve: Resolver
    connect: Connect
    opened: Opened

    def dial(self, host: str, port: int, timeout_s: float, *, tls: bool) -> socket.socket:  # noqa: ARG002
        """A connected socket. Raises PhotoFailure: forbidden_address, connection or timeout."""
        deadline = monotonic() + timeout_s
        return self.connect_any(self.checked(host, port, timeout_s), port, deadline)

    def connect_any(self, addresses: Sequence[Address], port: int, deadline: float) -> socket.socket:
        """A socket connected to the first address that answers before ``deadline`` (monotonic seconds)."""
        failure = PhotoFailure("connection", "the host has no address")
        for tried, address in enumerate(addresses):
            # Each address gets a share of the time, so that a silent first one leaves time for the next.
            share = (deadline - monotonic()) / (len(addresses) - tried)
            try:
                sock = self.connect(address, port, max(share, 0.001))
            except TimeoutError:
                failure = PhotoFailure("timeout", "the host does not accept connections in time")
            except OSError as error:
                failure = PhotoFailure("connection", f"no connection ({type(error).__name__})")
            else:
                return _peer_checked(sock, address)
        raise failure

    def checked(self, host: str, port: int, timeout_s: float) -> list[Address]:
        """The host's addresses, all of which may be dialled."""
        return checked_addresses(self.resolved(host, port, timeout_s), self.opened)

    def resolved(self, host: str, port: int, timeout_s: float) -> Sequence[str]:
        """The host's addresses, unchecked."""
        return literal_address(host) or _in_time(lambda: self.resolve(host, port), timeout_s)


def literal_address(host: str) -> list[str]:
    """The address that the host is; none when it is a name."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        return []


def _peer_checked(sock: socket.socket, address: Address) -> socket.socket:
    try:
        peer = ip_address(sock.getpeername()[0])
    except (OSError, ValueError, IndexError):
        peer = None
    if peer == address:
        return sock
    sock.close()
    raise PhotoFailure("forbidden_address", "the connection leads to another address than the checked one")


def _in_time(look_up: Callable[[], Sequence[str]], timeout_s: float) -> Sequence[str]:
    """Return the resolver's answer. The C library has no timeout, so it runs in a thread that can be abandoned."""
    outcome: list[Sequence[str] | OSError] = []

    def run() -> None:
        try:
            outcome.append(look_up())
        except (OSError, UnicodeError) as error:
            outcome.append(error if isinstance(error, OSError) else OSError())

    thread = threading.Thread(target=run, name="cropline-resolve", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise PhotoFailure("timeout", "the host's name was not resolved in time")
    if isinstance(outcome[0], OSError):
        raise PhotoFailure("connection", "the host's name does not resolve")
    return outcome[0]


def _pool_classes(dialler: Dial, most_received: int) -> dict[str, type[HTTPConnectionPool]]:
    """Return urllib3's pools over this dialler's connections. They are closures, because urllib3 makes the objects."""

    class PinnedConnection(HTTPConnection):
        answered = False

        def _new_conn(self) -> socket.socket:
            self.answered = False
            return dialler.dial(self.host, self.port, _seconds(self.timeout), tls=False)

        def getresponse(self) -> Any:
            return _answer(self, super().getresponse, most_received)

    class PinnedTlsConnection(HTTPSConnection):
        answered = False

        def _new_conn(self) -> socket.socket:
            self.answered = False
            return dialler.dial(self.host, self.port, _seconds(self.timeout), tls=True)

        def getresponse(self) -> Any:
            return _answer(self, super().getresponse, most_received)

    class PinnedPool(HTTPConnectionPool):
        ConnectionCls = PinnedConnection

    class PinnedTlsPool(HTTPSConnectionPool):
        ConnectionCls = PinnedTlsConnection

    return {"http": PinnedPool, "https": PinnedTlsPool}


def _seconds(timeout: object) -> float:
    if not isinstance(timeout, int | float):
        raise TypeError("a request was sent without a timeout")
    return float(timeout)


def _answer(connection: Any, receive: Callable[[], Any], most_received: int) -> Any:
    """Return the head of the response. urllib3 has set ``connection.timeout`` to the rest of the total."""
    wire = connection.sock
    if wire is not None:
        wire.deadline = monotonic() + _seconds(connection.timeout)
        wire.received, wire.most_received = 0, most_received
    try:
        response = receive()
        response.wire = wire
    except (RemoteDisconnected, ConnectionError, ssl.SSLEOFError):
        if not connection.answered:
            raise
    else:
        connection.answered = True
        return response
    raise StaleConnection


@dataclass
class Request:
    """A GET of one target. Its path and headers may hold secrets."""

    target: Target
    path: str = field(repr=False)  # path and query
    headers: dict[str, str] = field(repr=False)


class PinnedPools:
    """urllib3's pools over a dialler's connections: no redirects, retries or proxies of urllib3's own, no cookies.

    Certificates are always verified. ``relay``: the proxy at the other end of http connections, which is sent whole URLs.
    """

    def __init__(
        self,
        dialler: Dial,
        *,
        connections_per_host: int,
        most_received: int,
        ca_file: Path | None = None,
        relay: Proxy | None = None,
    ) -> None:
        """``most_received``: bytes of one response on the wire."""
        self._relay = relay
        self._ca_file = ca_file
        self._pools = urllib3.PoolManager(KEPT_HOSTS, maxsize=connections_per_host)
        self._pools.pool_classes_by_scheme = _pool_classes(dialler, most_received)

    def close(self) -> None:
        """Close the idle connections."""
        self._pools.clear()

    def send(self, request: Request, timeout: urllib3.Timeout) -> urllib3.BaseHTTPResponse:
        """Return the response, of which only the head is read. Raise urllib3's errors, StaleConnection or PhotoFailure."""
        target, url, headers = request.target, request.path, request.headers
        tls = target.scheme == "https"
        if self._relay and not tls:
            url = target.origin + request.path
            if self._relay.authorization:
                headers = headers | {"Proxy-Authorization": self._relay.authorization}
        pool = self._pools.connection_from_host(
            target.host, target.port, target.scheme, {"ssl_context": self._tls} if tls else None
        )
        return pool.urlopen(
            "GET",
            url,
            headers=headers,
            retries=_NEVER_AGAIN,
            redirect=False,
            assert_same_host=False,  # a relay is sent other hosts' URLs
            timeout=timeout,
            preload_content=False,
            decode_content=False,
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The system's authorities (OpenSSL also reads SSL_CERT_FILE and SSL_CERT_DIR), certifi's and ca_file's.

        Made for the first https URL, since it takes 40 ms.
        """
        import certifi

        context = ssl.create_default_context()
        context.load_verify_locations(cafile=certifi.where())
        if self._ca_file is not None:
            context.load_verify_locations(cafile=self._ca_file)
        context.sslsocket_class = DeadlineTlsSocket
        return context

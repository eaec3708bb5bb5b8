"""Reaches hosts through an HTTP proxy: a tunnel to an address that was checked here, or to a name that the proxy resolves."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from time import monotonic

from cropline.core.failures import PhotoFailure
from cropline.core.proxy import Proxy
from fugue_jobs.fetching.transport import Dialler, literal_address

# A proxy's answer to CONNECT is a few lines.
_MOST_HEAD = 16_384


@dataclass(frozen=True)
class ProxyDialler:
    """Connects through a proxy.

    ``resolves`` False: the host is resolved and checked here, and the proxy is asked for the checked address, so that the
    address rules hold. True: the proxy is asked for the name. An address in a URL is checked in both cases.
    """

    proxy: Proxy
    resolves: bool
    direct: Dialler

    def dial(self, host: str, port: int, timeout_s: float, *, tls: bool) -> socket.socket:
        """A socket to the host; to the proxy itself for http that it resolves. Raises PhotoFailure as Dialler does."""
        deadline = monotonic() + timeout_s
        asked = self._asked(host, port, timeout_s)
        failure = PhotoFailure("timeout", f"the proxy {self.proxy.shown} had no time left")
        for tried, to in enumerate(asked):
            # Each address gets a share of the time, as without a proxy.
            end = monotonic() + (deadline - monotonic()) / (len(asked) - tried)
            try:
                return self._reach(to, port, end, tunnel=tls or not self.resolves)
            except PhotoFailure as error:
                failure = error
        # Raised out here, so that it has no context.
        raise failure

    def _asked(self, host: str, port: int, timeout_s: float) -> list[str]:
        """Return what the proxy is asked for: checked addresses, or the name."""
        if literal_address(host) or not self.resolves:
            return [str(address) for address in self.direct.checked(host, port, timeout_s)]
        if not self.direct.opened.loopback and (host == "localhost" or host.endswith(".localhost")):
            raise PhotoFailure("forbidden_address", "the host leads to a forbidden address: loopback")
        return [host]

    def _reach(self, to: str, port: int, end: float, *, tunnel: bool) -> socket.socket:
        where = f"the proxy {self.proxy.shown}"
        try:
            # The proxy itself is of the settings, not of a manifest: it may have any address.
            own = [
                ip_address(each) for each in self.direct.resolved(self.proxy.host, self.proxy.port, end - monotonic())
            ]
            sock = self.direct.connect_any(own, self.proxy.port, end)
        except PhotoFailure as error:
            failure = PhotoFailure(error.code, f"{where}: {error.detail}")
        else:
            if not tunnel:
                return sock
            try:
                open_tunnel(sock, self.proxy, to, port, end)
            except TimeoutError:
                failure = PhotoFailure("timeout", f"{where} opened no connection in time")
            except OSError as error:
                failure = PhotoFailure("connection", f"{where} closed the connection ({type(error).__name__})")
            except PhotoFailure as error:
                failure = error
            else:
                return sock
            sock.close()
        raise failure


def open_tunnel(sock: socket.socket, proxy: Proxy, host: str, port: int, end: float) -> None:
    """Ask the proxy for a connection to host and port, until ``end`` (monotonic seconds).

    Of the tunnel's own bytes none is read. Raise PhotoFailure, or OSError when the connection breaks.
    """
    to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {to} HTTP/1.1", f"Host: {to}", "User-Agent: cropline"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    sock.settimeout(_left(end))
    sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    status = _status(_head(sock, end))
    if status == 200:
        return
    raise refused(proxy, status)


def refused(proxy: Proxy, status: int | None) -> PhotoFailure:
    """Return the failure for a proxy's own answer; ``status`` None: it was no HTTP."""
    where = f"the proxy {proxy.shown}"
    if status is None:
        return PhotoFailure("connection", f"{where} did not answer in HTTP")
    if status == 407:
        return PhotoFailure("connection", f"{where} answered 407: check user and password in CROPLINE_FETCH__PROXY")
    if status in (408, 504):
        return PhotoFailure("timeout", f"{where} answered {status}: it did not reach the host in time")
    return PhotoFailure("connection", f"{where} answered {status} to CONNECT")


def _left(end: float) -> float:
    left = end - monotonic()
    if left <= 0:
        raise TimeoutError("deadline")
    return left


def _head(sock: socket.socket, end: float) -> bytes:
    """Read up to the blank line, byte by byte: what follows belongs to the tunnel."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        sock.settimeout(_left(end))
        byte = sock.recv(1)
        if not byte or len(head) > _MOST_HEAD:
            return b""
        head += byte
    return bytes(head)


def _status(head: bytes) -> int | None:
    parts = head.split(b"\r\n", 1)[0].split(b" ", 2)
    known = len(parts) > 1 and parts[0] in (b"HTTP/1.0", b"HTTP/1.1") and parts[1].isdigit() and len(parts[1]) == 3
    return int(parts[1]) if known else None

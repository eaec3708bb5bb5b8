"""Decides where photos may come from: which URLs are read, which hosts are listed, which IP addresses may be dialled.

A URL is read once, by one strict grammar, and only its canonical form is used. What two parsers could read in two ways
(userinfo, backslashes, whitespace, odd numbers, Unicode hosts) is refused instead of repaired.
"""

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urljoin

from cropline.core.failures import PhotoFailure
from cropline.core.hosts import Network

Address = IPv4Address | IPv6Address
# Host name and port -> every IP address, as text. Raises OSError when the name cannot be resolved.
Resolver = Callable[[str, int], Sequence[str]]

MAX_URL_LENGTH = 8192
MAX_ANSWERS = 32
DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?", re.I)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_DOTTED_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Control characters, all kinds of blanks and line ends, and the backslash, which some parsers read as a slash.
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\\\ud800-\udfff]")


@dataclass(frozen=True)
class Target:
    """A parsed http(s) URL. Only ``origin`` may be shown; the rest can hold a signature."""

    scheme: str
    host: str  # lower-case name, dotted quad, or IPv6 without brackets
    port: int
    path: str  # path and query as they came; starts with "/"

    @property
    def origin(self) -> str:
        """scheme://host:port, which holds no secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def url(self) -> str:
        return self.origin + self.path

    @property
    def literal(self) -> Address | None:
        """The address, when the host is an address and not a name."""
        return ip_address(self.host) if ":" in self.host or _DOTTED_QUAD.fullmatch(self.host) else None

    @property
    def is_local(self) -> bool:
        """Whether the host's own text says that it is this machine."""
        literal = self.literal
        return self.host == "localhost" if literal is None else literal.is_loopback

    def __repr__(self) -> str:
        return f"Target({self.origin})"


def read_url(url: str) -> Target:
    """Parse a URL. Raises PhotoFailure(bad_url), whose detail names the broken rule and quotes nothing."""
    if len(url) > MAX_URL_LENGTH:
        raise PhotoFailure("bad_url", f"longer than {MAX_URL_LENGTH} characters")
    _check_plain(url)
    match = _URL.fullmatch(url)
    if not match:
        raise PhotoFailure("bad_url", "not http://host/path or https://host/path")
    scheme = match["scheme"].lower()
    host, port = _read_authority(match["authority"])
    return Target(scheme, host, port or DEFAULT_PORTS[scheme], (match["path"] or "/") + (match["query"] or ""))


def read_location(location: str, base: Target) -> Target:
    """The target of a redirect from ``base``. Raises PhotoFailure(bad_url), or ValueError for what cannot be joined."""
    # Before urljoin, which drops tabs and line ends silently: what they separated would be another URL.
    _check_plain(location)
    return read_url(urljoin(base.url, location))


def _check_plain(url: str) -> None:
    if _AMBIGUOUS.search(url):
        raise PhotoFailure("bad_url", "contains a blank, a control character or a backslash")


def _read_authority(authority: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise PhotoFailure("bad_url", "contains a user name before the host")
    match = _AUTHORITY.fullmatch(authority)
    if not match:
        raise PhotoFailure("bad_url", "the host is not a plain name, IPv4 or [IPv6] address (write IDN hosts as xn--)")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65535:
        raise PhotoFailure("bad_url", "the port is not within 1..65535")
    return _read_host(match["host"].lower()), port


def _read_host(host: str) -> str:
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1]).compressed
        except ValueError:
            pass
        raise PhotoFailure("bad_url", "the host is not an IPv6 address")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]) or (not labels[-1] and len(labels) > 1):
        # Browsers and the C library read 127.1, 0x7f.1 and 2130706433 as addresses. Only one form is accepted here.
        if _DOTTED_QUAD.fullmatch(host) and all(int(part) <= 255 for part in labels):
            return host
        raise PhotoFailure("bad_url", "the host is an address in an odd spelling, or ends in a dot")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise PhotoFailure("bad_url", "the host is not a DNS name")
    return host


def is_listed(target: Target, allowed_hosts: Iterable[str]) -> bool:
    """Whether the target's host is on the list. ``host`` allows all of its ports, ``host:port`` one; no wildcards.

    IPv6 addresses are listed in brackets. An empty list allows every host.
    """
    allowed = [entry.strip().lower() for entry in allowed_hosts]
    host = f"[{target.host}]" if ":" in target.host else target.host
    return not allowed or host in allowed or f"{host}:{target.port}" in allowed


def is_origin(target: Target, host_and_port: str) -> bool:
    """Whether the target is exactly this ``host[:port]``. Without a port, the scheme's default is meant."""
    wanted = host_and_port.strip().lower()
    host = f"[{target.host}]" if ":" in target.host else target.host
    names = {f"{host}:{target.port}"} | ({host} if target.port == DEFAULT_PORTS[target.scheme] else set())
    return wanted in names


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Every address that the operating system knows for a name, in its order of preference."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Opened:
    """Exceptions that the settings make: this machine's own addresses, and private networks."""

    loopback: bool = False
    networks: tuple[Network, ...] = ()


def checked_addresses(answers: Sequence[str], opened: Opened) -> list[Address]:
    """The answers as addresses, without repeats, in their order.

    Raises PhotoFailure(forbidden_address) when ANY of them may not be dialled: a name with one good and one private
    answer is an attack or a mistake, and choosing one would help the attack.
    """
    if len(answers) > MAX_ANSWERS:
        raise PhotoFailure("forbidden_address", f"the host has more than {MAX_ANSWERS} addresses")
    addresses: list[Address] = []
    for answer in answers:
        try:
            address = ip_address(answer)
        except ValueError:
            address = None
        reason = "no IP address" if address is None else forbidden(address, opened)
        if address is None or reason:
            raise PhotoFailure("forbidden_address", f"the host leads to a forbidden address: {reason}")
        if address not in addresses:
            addresses.append(address)
    return addresses


# IANA's special-purpose registries, and the clouds' own addresses that are not in them. Written out because
# ipaddress.is_global allows multicast, IPv6 wrappings and 168.63.129.16, and changes between Python versions.
_FORBIDDEN_V4 = [
    (IPv4Network(network), reason)
    for network, reason in (
        ("169.254.0.0/16", "link-local or metadata"),
        ("168.63.129.16/32", "metadata"),
        ("100.100.100.200/32", "metadata"),
        ("127.0.0.0/8", "loopback"),
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("100.64.0.0/10", "shared (CGNAT)"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved or broadcast"),
    )
]
# Within 2000::/3, the only public block.
_FORBIDDEN_V6 = [
    (IPv6Network(network), reason)
    for network, reason in (
        ("2001::/23", "reserved or Teredo"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "reserved"),
        ("3fff::/20", "documentation"),
    )
]
# Amazon's, Google's and Oracle's, within fd00::/8.
_METADATA_V6 = frozenset(map(IPv6Address, ("fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe")))
_PUBLIC_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_LOOPBACKS = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def forbidden(address: Address, opened: Opened) -> str | None:
    """Why an address may not be dialled, or None. Metadata addresses are always forbidden, whatever ``opened`` says."""
    if isinstance(address, IPv4Address):
        reason = next((why for network, why in _FORBIDDEN_V4 if address in network), None)
    else:
        reason = _forbidden_v6(address)
    if reason and opened.loopback and any(address in network for network in _LOOPBACKS):
        return None
    if reason not in ("metadata", "scoped") and any(address in network for network in opened.networks):
        return None
    if not reason and not address.is_global:
        return "not global"
    return reason


def _forbidden_v6(address: IPv6Address) -> str | None:
    if address.scope_id:
        return "scoped"
    if address in _METADATA_V6:
        return "metadata"
    if address in _NAT64:
        # A network without IPv4 reaches IPv4 hosts only by NAT64, so the wrapped address decides, without exceptions.
        return forbidden(IPv4Address(int(address) & 0xFFFFFFFF), Opened())
    if address not in _PUBLIC_V6:
        return "loopback" if address.is_loopback else "not a public IPv6 address"
    if (int(address) >> 32) & 0xFDFFFFFF == 0x00005EFE:
        return "ISATAP"
    return next((why for network, why in _FORBIDDEN_V6 if address in network), None)

"""Strict parsers for the hosts, networks and certificate files in settings. URLs of photos: fetching/addresses.py."""

import re
import ssl
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path

Network = IPv4Network | IPv6Network

_ENTRY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRIVATE = tuple(
    ip_network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)


def read_host(entry: str) -> str:
    """Return ``host[:port]`` in canonical form, for comparisons. Raise ValueError, which does not quote the entry."""
    match = _ENTRY.fullmatch(entry.strip())
    host = match["host"].lower() if match else ""
    if match is None or not (host.startswith("[") or _is_name_or_quad(host)):
        raise ValueError("must be host or host:port: a plain name, 10.1.2.3 or [IPv6]; no scheme, path, user or *")
    if match["port"] and not 1 <= int(match["port"]) <= 65535:
        raise ValueError("the port must be within 1..65535")
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            raise ValueError("the text in brackets is not an IPv6 address") from None
    return host if not match["port"] else f"{host}:{int(match['port'])}"


def _is_name_or_quad(host: str) -> bool:
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return bool(_QUAD.fullmatch(host)) and all(int(part) <= 255 for part in labels)
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def read_private_network(entry: str) -> Network:
    """Return a network of private addresses (RFC 1918, CGNAT, IPv6 ULA), such as 10.20.0.0/16 or fd12:3456::/32.

    Raise ValueError for all others: public addresses need no permission, and loopback and link-local cannot
    get it here.
    """
    try:
        network = ip_network(entry.strip())
    except ValueError:
        raise ValueError("must be a network such as 10.20.0.0/16, with no host bits set") from None
    if not any(network.version == private.version and network.subnet_of(private) for private in _PRIVATE):  # type: ignore[arg-type]
        raise ValueError("must be within 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 or fc00::/7")
    return network


def check_authorities(path: Path) -> None:
    """Raise ValueError unless the file holds certificates in PEM."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except OSError as error:
        raise ValueError(f"{path} holds no certificates in PEM ({type(error).__name__})") from None

"""The HTTP proxy of a setting: parsed strictly, shown only as host and port."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, unquote

from cropline.core.hosts import read_host

_PROXY = re.compile(
    r"http://(?:(?P<user>[^/?#@]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})/?"
)


@dataclass(frozen=True)
class Proxy:
    """A proxy. Only ``shown`` may be shown: user and password are secrets."""

    host: str  # lower-case name, dotted quad, or IPv6 without brackets
    port: int
    user: str = field(default="", repr=False)  # user:password, decoded; empty sends none

    @property
    def shown(self) -> str:
        """host:port, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authorization(self) -> str:
        """The value of Proxy-Authorization; empty: none."""
        return f"Basic {b64encode(self.user.encode()).decode()}" if self.user else ""

    @property
    def url(self) -> str:
        """The proxy with its user and password, for a client library. Never show it."""
        name, _, password = self.user.partition(":")
        user = f"{quote(name, safe='')}:{quote(password, safe='')}@" if self.user else ""
        return f"http://{user}{self.shown}"


@lru_cache(maxsize=16)
def read_proxy(url: str) -> Proxy | None:
    """Parse http://[user:password@]host:port; None when it is empty. Raise ValueError, which quotes nothing of it."""
    if not url:
        return None
    match = _PROXY.fullmatch(url)
    if match is None or not url.isprintable() or not url.isascii():
        raise ValueError("must be http://[user:password@]host:port; other characters in user or password as %XX")
    host = read_host(f"{match['host']}:{match['port']}").rpartition(":")[0]
    user = unquote(match["user"] or "")
    if user and not user.isprintable():
        raise ValueError("user and password must be printable")
    return Proxy(host.strip("[]"), int(match["port"]), user if ":" in user or not user else f"{user}:")


def requests_proxies(proxy: Proxy | None) -> dict[str, str]:
    """Return the ``proxies`` of a requests session, which needs ``trust_env`` False beside it."""
    return {"http": proxy.url, "https": proxy.url} if proxy else {}

"""The requests of a proposal: one page in several ways. No answer is an error here: each is evidence."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cropline.config.api import ApiSettings
from cropline.core.errors import ApiError
from cropline.intake.proposals.proposal import key, number_of
from cropline.intake.proposals.times import is_time
from cropline.intake.sources.rest_request import Ask, Position, build
from cropline.intake.sources.rest_wire import StatusError, Wire

_PAUSE_S = 0.2
# Parameters by their role. In a given address the value decides where a name has two.
LIMITS = ("limit", "per_page", "page_size", "pageSize", "perPage", "size", "count", "take", "max_results", "$top")
PAGES = ("page", "p", "page_number", "pageNumber")
OFFSETS = ("offset", "skip", "from", "start", "$skip")
CURSORS = ("cursor", "after", "page_token", "pageToken", "next", "starting_after", "continuation", "next_token")
SINCES = ("updated_after", "updated_since", "modified_since", "modified_after", "changed_since", "updatedAfter", "since", "after",
          "from_date", "start_date", "updated_from", "from", "start", "oldest", "start_time")  # fmt: skip
_SECRETS = frozenset(
    {"apikey", "key", "token", "accesstoken", "secret", "code", "sig", "signature", "subscriptionkey", "authtoken"}
)


@dataclass(frozen=True)
class Reply:
    """One answer. ``status`` 0: no answer, or one that is not JSON; ``why`` says which."""

    status: int
    body: Any = None
    links: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    @property
    def good(self) -> bool:
        return self.status == 200


@dataclass(frozen=True)
class Address:
    """A given address, taken apart. ``roles``: the parameters whose role is known; ``secret``: name and value of a key."""

    url: str
    path: str
    roles: Mapping[str, tuple[str, str]]
    secret: tuple[str, str] | None


def take_apart(address: str) -> Address:
    """Return the parts of an address that works in a browser. Raise ValueError when it is not http(s)."""
    parts = urlsplit(address.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("must be http(s)://host[:port]/path")
    roles: dict[str, tuple[str, str]] = {}
    kept, secret = [], None
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        role = _role(name, value)
        if key(name) in _SECRETS and role is None:
            secret = (name, value)
        elif role is not None and role not in roles:
            roles[role] = (name, value)
        else:
            kept.append((name, value))
    query = f"?{urlencode(kept)}" if kept else ""
    return Address(f"{parts.scheme}://{parts.netloc}", f"{parts.path.rstrip('/') or ''}{query}", roles, secret)


def _role(name: str, value: str) -> str | None:
    number = number_of(value)
    if name in SINCES and (is_time(value) or (name not in OFFSETS and number == 0)):
        return "since"
    for role, names in (("limit", LIMITS), ("page", PAGES), ("offset", OFFSETS), ("cursor", CURSORS)):
        if name in names and (role == "cursor" or number is not None):
            return role
    return None


class Asker:
    """Sends requests with one authentication, a few per second, and counts them."""

    def __init__(self, api: ApiSettings, pause_s: float = _PAUSE_S) -> None:
        self.api = api
        self.asked = 0
        self._pause_s = pause_s

    def ask(self, params: Mapping[str, Any]) -> Reply:
        """Return the answer with these query parameters, and with the body of the settings filled in."""
        if self.asked:
            time.sleep(self._pause_s)
        self.asked += 1
        whole = build(self.api, "1970-01-01T00:00:00Z", Position(value=self._first()), 50)
        wire = Wire(self.api)
        try:
            answer = wire.ask(Ask(whole.url, {**whole.params, **params}, whole.json), once=True)
            return Reply(200, answer.body, answer.links)
        except StatusError as error:
            return Reply(error.status, why=f"answers {error.status}")
        except ApiError as error:
            return Reply(0, why=str(error))
        finally:
            wire.close()

    def _first(self) -> int | None:
        """A body that counts pages or offsets begins at the first: without it, the member would be left out."""
        return 0 if self.api.method == "POST" and self.api.paginator == "offset" else None

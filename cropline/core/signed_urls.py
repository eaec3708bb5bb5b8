"""Whether a URL is signed and when it expires, from the query parameters of common signing schemes.

Names are compared without case. Only the schemes here, which docs/failures.md lists, count as signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

# A URL with every parameter of one of these sets is signed.
SCHEMES: tuple[frozenset[str], ...] = (
    frozenset({"x-amz-signature"}),  # AWS and other S3 servers
    frozenset({"x-goog-signature"}),  # Google Cloud Storage
    frozenset({"x-oss-signature"}),  # Alibaba
    frozenset({"q-signature"}),  # Tencent
    frozenset({"sig", "se"}),  # Azure SAS
    frozenset({"sig", "si"}),  # Azure SAS by a stored policy
    frozenset({"signature", "expires"}),  # version 2 of S3 and Google, CloudFront, Google's CDN
    frozenset({"signature", "policy"}),  # CloudFront by a policy
    frozenset({"signature", "key-pair-id"}),
    frozenset({"hdnts"}),  # Akamai
    frozenset({"hdnea"}),
    frozenset({"__token__"}),
    frozenset({"token"}),  # in general use
    frozenset({"access_token"}),
    frozenset({"jwt"}),
)


def is_signed(url: str) -> bool:
    """Return whether the URL's query has the parameters of a signing scheme or an expiry time."""
    found = _query(url)
    return any(scheme <= found.keys() for scheme in SCHEMES) or expires_at(url) is not None


def expires_at(url: str) -> datetime | None:
    """Return the expiry time in a URL's query; None when it has none."""
    found = _query(url)
    moments = [moment for read in _EXPIRIES if (moment := _attempt(read, found)) is not None]
    return min(moments, default=None)


def has_expired(url: str, now: datetime) -> bool:
    """Return whether the expiry time in a URL's query has passed."""
    at = expires_at(url)
    return at is not None and at <= now


def _query(url: str) -> dict[str, str]:
    try:
        return {name.lower(): value for name, value in parse_qsl(urlsplit(url).query, max_num_fields=200)}
    except ValueError:
        return {}


def _attempt(read: Callable[[Mapping[str, str]], datetime | None], found: Mapping[str, str]) -> datetime | None:
    try:
        return read(found)
    except (ValueError, OverflowError, OSError):  # a custom parameter that is no time
        return None


def _from_date(prefix: str) -> Callable[[Mapping[str, str]], datetime | None]:
    def read(found: Mapping[str, str]) -> datetime | None:
        date, lasts = found.get(f"{prefix}-date"), found.get(f"{prefix}-expires")
        if date is None or lasts is None:
            return None
        return _moment(date) + timedelta(seconds=int(lasts))

    return read


def _until(name: str) -> Callable[[Mapping[str, str]], datetime | None]:
    def read(found: Mapping[str, str]) -> datetime | None:
        return _moment(found[name]) if name in found else None

    return read


def _akamai(found: Mapping[str, str]) -> datetime | None:
    text = found.get("hdnts") or found.get("hdnea") or found.get("__token__") or ""
    parts = dict(part.split("=", 1) for part in text.split("~") if "=" in part)
    return _moment(parts["exp"]) if "exp" in parts else None


_EXPIRIES = (
    _from_date("x-amz"),
    _from_date("x-goog"),
    _from_date("x-oss"),
    _until("se"),
    _until("expires"),
    _until("exp"),
    _akamai,
)


def _moment(text: str) -> datetime:
    """Parse seconds since 1970, or ISO 8601 in its long or short form."""
    if text.isascii() and text.isdigit() and len(text) in (9, 10, 11):
        return datetime.fromtimestamp(int(text), UTC)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

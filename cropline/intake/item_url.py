"""Make an item's photo URL absolute and encoded, so that it can be requested."""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)(.*)", re.DOTALL)
# Blanks and non-ASCII letters. Control characters stay, so that such a URL is refused.
_TO_ENCODE = re.compile(r"[ \u00a0-\ud7ff\ue000-\U0010ffff]+")


def photo_url(url: str, base: str) -> str:
    """Return the URL, absolute if there is a base, with blanks and non-ASCII letters after the host percent-encoded."""
    if base and not _SCHEME.match(url):
        url = urljoin(f"{base.rstrip('/')}/", url.strip(" "))
    parts = _PARTS.fullmatch(url.strip(" "))
    if parts is None:
        return url
    return parts[1] + _TO_ENCODE.sub(lambda match: quote(match[0]), parts[2])

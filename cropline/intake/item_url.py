"""A photo's address as an item has it, made into one that can be asked for."""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)(.*)", re.DOTALL)
# Blanks and letters beyond ASCII. Control characters are left: they are no part of an address, and it is refused.
_TO_ENCODE = re.compile(r"[ \u00a0-\ud7ff\ue000-\U0010ffff]+")


def photo_url(url: str, base: str) -> str:
    """The address, absolute if there is a base, with blanks and letters beyond ASCII percent-encoded after the host."""
    if base and not _SCHEME.match(url):
        url = urljoin(f"{base.rstrip('/')}/", url.strip(" "))
    parts = _PARTS.fullmatch(url.strip(" "))
    if parts is None:
        return url
    return parts[1] + _TO_ENCODE.sub(lambda match: quote(match[0]), parts[2])

"""Make an item's photo URL absolute and encoded, so that it can be requested."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urljoin

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PARTS = re.compile(r"(https?://[^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)
# Blanks and non-ASCII letters. Control characters stay, so that such a URL is refused.
_TO_ENCODE = re.compile(r"[ \u00a0-\ud7ff\ue000-\U0010ffff]+")
_UNENCODED = "/:@!$&'()*+,;=~-._"


def photo_url(url: str, base: str) -> str:
    """Return the URL, absolute if there is a base.

    In http URLs, blanks and non-ASCII letters after the host are percent-encoded. Keys of buckets stay as written. A
    path in a folder becomes a file:// URL.
    """
    url = url.strip(" ")
    if base and not _SCHEME.match(url):
        url = _joined(url, base)
    parts = _PARTS.fullmatch(url)
    if parts is None:
        return url
    return parts[1] + _TO_ENCODE.sub(lambda match: quote(match[0]), parts[2])


def file_url(path: str) -> str:
    """Return the file:// URL of an absolute path."""
    return f"file://{quote(path, safe=_UNENCODED)}"


def _joined(url: str, base: str) -> str:
    scheme = base.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return urljoin(f"{base.rstrip('/')}/", url)
    if scheme == "file":
        folder = PurePosixPath(unquote(base[len("file://") :]))
        return file_url(str(folder / url))
    return f"{base.rstrip('/')}/{url.removeprefix('./').lstrip('/')}"

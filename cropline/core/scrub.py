"""Secrets taken out of text that people and tables will see: log lines, error messages, crop rows, lineage, artifacts.

Belongs here: what a secret looks like inside a text. Does not: deciding what to show; a text that need not hold a URL
should not be given one. Removing too much is accepted, too little is not: signed queries, userinfo, bearer tokens and
values of fields with secret names go, and so does everything between a URL's scheme and a later ``@``.
"""

import re

MASK = "***"

# Every repetition that can fail late is bounded, so that hostile text costs linear time.
_USERINFO = re.compile(r"(?<=://)(?:[^\s/?#\"'<>]{0,512}|[^\s/?#@:\"'<>]{1,128}:(?!\d+[/?#])[^\s\"'<>]{0,512})@")
_WORD = re.compile(r"[^\s\"'<>`]+")
_QUERY = re.compile(r"[?#].*")
_BARE_QUERY = re.compile(r"\?[^\s\"'<>`?=]*=[^\s\"'<>`]*")
_SCHEME_TOKEN = re.compile(r"\b(bearer|basic|negotiate)\s+[^\s\"',;<>]+", re.IGNORECASE)
_NAMED = re.compile(
    r"((?:authorization|token|secret|passw(?:or)?d|pwd|api[_-]?key|access[_-]?key(?:[_-]?id)?|signature|credentials?|cookie)"
    r"[\w-]{0,20}[\"']?\s{0,3}[:=]\s{0,3})(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s\"'&,;)}\]]+)",
    re.IGNORECASE,
)
_KNOWN = re.compile(
    r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bxox[a-z]-[\w-]{10,}"
)
# Terminal colours and other control characters, as some libraries put into their messages.
_CONTROL = re.compile(r"\x1b\[[0-9;]*[a-zA-Z]|[\x00-\x1f\x7f-\x9f]")


def scrub(text: str) -> str:
    """The text without secrets; each removed part is ``***`` (a query is ``?***``). Idempotent.

    What stays: schemes, hosts, ports and paths of URLs, and everything that only looks like prose.
    """
    if "://" in text:
        text = _WORD.sub(_scrub_url, text)
    text = _BARE_QUERY.sub(f"?{MASK}", text)
    text = _SCHEME_TOKEN.sub(rf"\1 {MASK}", text)
    text = _NAMED.sub(rf"\1{MASK}", text)
    return _KNOWN.sub(MASK, text)


def _scrub_url(word: re.Match[str]) -> str:
    scheme, mark, rest = _USERINFO.sub(f"{MASK}@", word[0]).partition("://")
    return f"{scheme}{mark}{_QUERY.sub(f'?{MASK}', rest)}" if mark else word[0]


def one_line(text: str, limit: int = 300) -> str:
    """The scrubbed text on one line of at most ``limit`` characters, as rows and event messages want it."""
    line = " ".join(_CONTROL.sub(" ", scrub(text[: 8 * limit])).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def visible(text: str) -> str:
    """The text with what cannot be printed written out: an id may hold what drives a terminal or breaks a picture's XML."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)

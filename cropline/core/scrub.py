"""Remove secrets from text that people and tables will see: log lines, errors, crop rows, lineage, artifacts.

Signed queries, userinfo, bearer tokens, values of fields with secret names, and everything between a URL's scheme and
a later ``@`` are removed. It may remove too much, never too little.
"""

import re

MASK = "***"

# Every repetition that can fail late has a bound, so hostile text costs linear time.
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
# Terminal colours and other control characters, which some libraries put into their messages.
_CONTROL = re.compile(r"\x1b\[[0-9;]*[a-zA-Z]|[\x00-\x1f\x7f-\x9f]")


def scrub(text: str) -> str:
    """Return the text without secrets; each removed part is ``***`` (a query is ``?***``). Idempotent.

    Schemes, hosts, ports and paths of URLs stay, and so does ordinary prose.
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
    """Return the scrubbed text on one line of at most ``limit`` characters, for rows and event messages."""
    line = " ".join(_CONTROL.sub(" ", scrub(text[: 8 * limit])).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def visible(text: str) -> str:
    """Return the text with unprintable characters escaped: an id may control the terminal or break a picture's XML."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)

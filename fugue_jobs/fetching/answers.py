"""Reads one HTTP response: its body within limits, its status as a reason, its errors without their texts."""

import email.utils
import hashlib
import http.client
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import urllib3

from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.addresses import Target
from fugue_jobs.fetching.transport import ReceivedTooMuch, StaleConnection

CHUNK = 256 * 1024
# A refused response's body of at most this size is read to its end, so that the connection can be kept.
DRAIN = 64 * 1024
MAX_RETRY_AFTER_S = 6 * 3600
_REFUSES_SIGNED = frozenset({401, 403, 410})


@dataclass(frozen=True)
class Photo:
    """A whole body as the host sent it. ``sha256`` is the lower-case hex digest of ``data``."""

    data: bytes = field(repr=False)
    sha256: str


@dataclass(frozen=True)
class Body:
    data: bytes
    sha256: str
    is_whole: bool  # whether a Content-Length proves that nothing is missing


def read_body(response: urllib3.BaseHTTPResponse, max_bytes: int) -> Body:
    """Read the whole body. Raise PhotoFailure for a coded or too large body, urllib3's errors for a broken one."""
    headers = response.headers
    coding = headers.get("Content-Encoding", "identity").strip().lower()
    transfer = headers.get("Transfer-Encoding", "chunked").strip().lower()
    if coding not in ("identity", "") or transfer != "chunked":
        raise PhotoFailure("encoded_body", "the body is compressed")
    declared = _content_length(response)
    if declared is not None and declared > max_bytes:
        raise PhotoFailure("too_large", f"{declared} bytes, {max_bytes} are allowed")
    chunks, size = [], 0
    # A body of known length is read in one piece: joining pieces costs as much CPU as receiving them.
    for chunk in _chunks(response, declared or CHUNK):
        size += len(chunk)
        if size > max_bytes:
            raise PhotoFailure("too_large", f"more than {max_bytes} bytes")
        if _received(response) > size * 5 // 4 + DRAIN:
            raise PhotoFailure("too_large", "sent in chunks of a few bytes each")
        chunks.append(chunk)
    data = b"".join(chunks)
    # A proper end of chunks proves nothing: a proxy whose upstream broke off ends them properly too.
    return Body(data, hashlib.sha256(data).hexdigest(), is_whole=declared is not None)


def _received(response: urllib3.BaseHTTPResponse) -> int:
    """Return the bytes on the wire so far: parsing chunks of one byte costs a second of CPU per million."""
    wire = getattr(response, "wire", None)
    return 0 if wire is None else int(wire.received)


def _chunks(response: urllib3.BaseHTTPResponse, size: int) -> Iterator[bytes]:
    failure = None
    while failure is None:
        try:
            chunk = response.read(size)
        except WIRE_ERRORS as error:
            failure = wire_failure(error, in_body=True)
        else:
            if not chunk:
                return
            yield chunk
    raise failure


def _content_length(response: urllib3.BaseHTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) and "Transfer-Encoding" not in response.headers else None


def drain(response: urllib3.BaseHTTPResponse) -> None:
    """Read a short body to its end. 1xx, 204 and 304 have none: what follows is another response or invalid."""
    if response.status < 200 or response.status in (204, 304):
        return
    size = _content_length(response)
    if size is not None and size <= DRAIN:
        response.drain_conn()


def refusal(target: Target, response: urllib3.BaseHTTPResponse, *, signed: bool = False) -> PhotoFailure:
    """Return why there is no photo. ``signed``: a URL on the way was a signed one, see signed_urls.py."""
    status = response.status
    if signed and (status in _REFUSES_SIGNED or _token_expired(response)):
        return PhotoFailure("url_expired", f"{target.origin} answered {status} to a signed URL")
    retry_after = _retry_after_s(response.headers.get("Retry-After")) if status in (429, 503) else None
    known = {429: "http_429", 404: "http_404", 410: "http_404", 408: "timeout"}
    code = known.get(status) or {4: "http_4xx", 5: "http_5xx"}.get(status // 100, "http_other")
    return PhotoFailure(code, f"{target.origin} answered {status}", retry_after_s=retry_after)


def _token_expired(response: urllib3.BaseHTTPResponse) -> bool:
    """Return whether the token expired. Google and S3 answer 400; only the body distinguishes it from a bad request."""
    size = _content_length(response)
    if response.status != 400 or (size or 0) > DRAIN or response.headers.get("Content-Encoding"):
        return False
    try:
        return b"<Code>ExpiredToken</Code>" in response.read(DRAIN)
    except WIRE_ERRORS:
        return False  # the status is the reason then


def _retry_after_s(value: str | None) -> int | None:
    """Return a Retry-After header in either form as seconds from now, 0..MAX_RETRY_AFTER_S; None if invalid."""
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]+", text):
        return min(int(text[:18]), MAX_RETRY_AFTER_S)
    try:
        at = email.utils.parsedate_to_datetime(text)
        wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(int(wait.total_seconds()), 0), MAX_RETRY_AFTER_S)


_TIMEOUTS = (TimeoutError, urllib3.exceptions.TimeoutError)
_TLS = (ssl.SSLError, urllib3.exceptions.SSLError)
_ENDED_EARLY = (http.client.IncompleteRead, urllib3.exceptions.InvalidChunkLength, ssl.SSLEOFError)
WIRE_ERRORS = (StaleConnection, urllib3.exceptions.HTTPError, OSError, ValueError)


def wire_failure(error: Exception, *, in_body: bool) -> PhotoFailure:
    """Return the failure for the kind of a network error. Error texts quote URLs and are never passed on."""
    kinds = list(_causes(error))
    if any(isinstance(kind, ReceivedTooMuch) for kind in kinds):
        return PhotoFailure("too_large", "the response is longer than any photo needs")
    if any(isinstance(kind, _TIMEOUTS) for kind in kinds):
        return PhotoFailure("timeout", "the photo did not arrive in time")
    if in_body and any(isinstance(kind, _ENDED_EARLY) for kind in kinds):
        return PhotoFailure("truncated", "the connection ended before the body did")
    if any(isinstance(kind, _TLS) for kind in kinds):
        return PhotoFailure("tls", f"no TLS connection ({type(kinds[-1]).__name__})")
    return PhotoFailure("connection", f"the connection broke ({type(kinds[-1]).__name__})")


def _causes(error: Exception) -> Iterator[BaseException]:
    """Yield the error and its causes: urllib3 keeps them in args, ``reason`` or __context__."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        current = waiting.pop(0)
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [*current.args, getattr(current, "reason", None), current.__cause__, current.__context__]


def checked(body: Body, expected_bytes: int | None, expected_sha256: str | None) -> Photo:
    """Return the body if it matches the manifest's declared size and hash.

    Otherwise raise PhotoFailure: text (an error page sent with 200) is not_a_picture, whatever the hash. A
    short body without a length is truncated. Anything else is hash_mismatch.
    """
    size = len(body.data)
    if not size and not body.is_whole:
        raise PhotoFailure("truncated", "the connection ended before the body began")
    sha256 = (expected_sha256 or body.sha256).strip().lower()
    if sha256 == body.sha256 and expected_bytes in (None, size):
        return Photo(body.data, body.sha256)
    if _reads_as_text(body.data):
        raise PhotoFailure("not_a_picture", f"{size} bytes of text")
    if not body.is_whole and size < (expected_bytes or 0):
        raise PhotoFailure("truncated", f"{size} bytes, then the connection ended")
    declared = "the sha256 differs" if sha256 != body.sha256 else f"{expected_bytes} are declared"
    raise PhotoFailure("hash_mismatch", f"{size} bytes; {declared}")


def _reads_as_text(data: bytes) -> bool:
    """Return whether the bytes start like text. No picture does: each format starts with controls or invalid UTF-8."""
    head = data[:256]
    return bool(head) and not re.search(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]", head) and _is_utf8(head)


def _is_utf8(head: bytes) -> bool:
    try:
        head[: max(len(head) - 3, 1)].decode()
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 6  # our own cut split a character
    return True

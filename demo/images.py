"""Responses for a photo's address: the photo, or what a fault makes of it."""

import asyncio
import math
from collections.abc import AsyncIterator

from fastapi import Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from demo.faults import Fault, FaultRule
from demo.pictures import Picture
from demo.spoil import PRIVATE_URL, beheaded, flipped, gzip_bomb

_JPEG = "image/jpeg"
_DRIP = 1024
_HTML = "<!doctype html><title>Sign in</title><h1>Please sign in to continue</h1>"


def sound(picture: Picture, content: bytes, known: str | None) -> Response:
    """Return the photo, or 304 when the client's If-None-Match names it."""
    headers = {"etag": f'"{picture.etag}"'}
    if known == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_JPEG, headers=headers)


def too_many(seconds: float | None) -> Response:
    """Return 429 with a Retry-After in whole seconds."""
    wait = str(math.ceil(1.0 if seconds is None else seconds))
    return JSONResponse({"detail": "too many requests"}, 429, headers={"retry-after": wait})


def server_error() -> Response:
    return JSONResponse({"detail": "internal server error"}, 500)


def sign_in_page() -> Response:
    """Return the page that a proxy sends instead of a response."""
    return HTMLResponse(_HTML)


def struck(rule: FaultRule, picture: Picture, content: bytes) -> Response:
    """Return the response of this fault."""
    headers = {"etag": f'"{picture.etag}"'}
    half = content[: len(content) // 2]
    match rule.fault:
        case Fault.IMAGE_429:
            return too_many(rule.seconds)
        case Fault.IMAGE_500:
            return server_error()
        case Fault.IMAGE_MISSING:
            return JSONResponse({"detail": "no such image"}, 404)
        case Fault.IMAGE_HTML:
            return sign_in_page()
        case Fault.IMAGE_REDIRECT:
            return RedirectResponse(PRIVATE_URL, 302)
        case Fault.IMAGE_GZIP_BOMB:
            return Response(gzip_bomb(), media_type=_JPEG, headers={**headers, "content-encoding": "gzip"})
        case Fault.IMAGE_CORRUPT_SCAN:
            return Response(flipped(content), media_type=_JPEG, headers=headers)
        case Fault.IMAGE_CORRUPT_HEADER:
            return Response(beheaded(content), media_type=_JPEG, headers=headers)
        case Fault.IMAGE_SLOW_DRIP:
            pause = 0.2 if rule.seconds is None else rule.seconds
            length = {**headers, "content-length": str(len(content))}
            return StreamingResponse(_dripping(content, pause), media_type=_JPEG, headers=length)
        case Fault.IMAGE_TRUNCATED:
            return _BrokenOff(half, {**headers, "content-length": str(len(content))})
        case Fault.IMAGE_TRUNCATED_CHUNKED:
            return _BrokenOff(half, headers)
        case Fault.IMAGE_TRUNCATED_SILENTLY:
            return StreamingResponse(_pieces(half), media_type=_JPEG, headers=headers)
    raise ValueError(f"{rule.fault} does not affect images")


async def _dripping(content: bytes, pause: float) -> AsyncIterator[bytes]:
    for at in range(0, len(content), _DRIP):
        yield content[at : at + _DRIP]
        await asyncio.sleep(pause)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 65536):
        yield content[at : at + 65536]


class _BrokenOff(Response):
    """Sends a body but never its end: uvicorn then closes the connection."""

    def __init__(self, sent: bytes, headers: dict[str, str]) -> None:
        super().__init__(status_code=200)
        self._sent = sent
        # The base class would add the length of what is sent.
        pairs = {"content-type": _JPEG, **headers}
        self.raw_headers = [(name.encode(), value.encode()) for name, value in pairs.items()]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._sent, "more_body": True})

"""Who may see the gallery: browsers of this machine, or who has the token. Sets the headers that keep pages inert."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

COOKIE = "cropline_gallery"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Handler = Callable[[Request], Awaitable[Response]]


def guard(app: FastAPI, token: str | None) -> None:
    """Refuse requests without the token. Without a token, refuse names of other hosts.

    A page of another site can point its own name at this machine (DNS rebinding); the Host header tells.
    """

    @app.middleware("http")
    async def check(request: Request, call_next: Handler) -> Response:
        answer = _refusal(request, token) or await call_next(request)
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        answer.headers.setdefault("Cache-Control", "private, no-store")
        return answer


def _refusal(request: Request, token: str | None) -> Response | None:
    if request.method not in ("GET", "HEAD"):
        return PlainTextResponse("the gallery only reads", 405)
    if token is None:
        host = request.url.hostname or ""
        return None if host in LOOPBACK else PlainTextResponse("this gallery answers on loopback only", 403)
    given = request.query_params.get("token")
    if given is not None:
        return _signed_in(request, token) if _same(given, token) else PlainTextResponse("the token is wrong", 403)
    if _same(request.cookies.get(COOKIE, ""), token):
        return None
    return PlainTextResponse("open the address with ?token=..., as cropline gallery printed it", 401)


def _signed_in(request: Request, token: str) -> Response:
    """Keep the token in a cookie, and take it out of the address."""
    query = urlencode([(name, value) for name, value in parse_qsl(request.url.query) if name != "token"])
    # A path alone: a Location that begins with two slashes would lead to another host.
    path = "/" + request.url.path.lstrip("/")
    answer = RedirectResponse(f"{path}?{query}" if query else path, 303)
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())

"""Authentication at an API, and the servers that may receive our token."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cropline.config.api import ApiSettings

if TYPE_CHECKING:
    from requests.auth import AuthBase


def is_same_server(url: str, api: ApiSettings) -> bool:
    """Return whether our token may go there: to the configured host, or to the same host over TLS when it has none."""
    try:
        there, here = urlsplit(url), urlsplit(api.url)
        ports = there.port, here.port
    except ValueError:
        return False
    if there.hostname != here.hostname or "@" in there.netloc or "\\" in url:
        return False
    if there.scheme == here.scheme:
        default = {"http": 80, "https": 443}.get(here.scheme)
        return (ports[0] or default) == (ports[1] or default)
    upgraded = (here.scheme, there.scheme) == ("http", "https")
    return upgraded and (ports[0] == ports[1] or (ports[0] in (None, 443) and ports[1] in (None, 80)))


def is_downgrade(url: str, api: ApiSettings) -> bool:
    """Return whether it is the configured host, but without TLS."""
    there, here = urlsplit(url), urlsplit(api.url)
    return there.hostname == here.hostname and (here.scheme, there.scheme) == ("https", "http")


def auth_of(api: ApiSettings) -> AuthBase | None:
    from dlt.sources.helpers.rest_client.auth import APIKeyAuth, BearerTokenAuth, HttpBasicAuth

    from cropline.intake.sources.rest_oauth import client_credentials

    auth, token = api.auth, api.secret_token
    match auth.kind:
        case "header":
            return APIKeyAuth(name=auth.header, api_key=f"{auth.prefix} {token}".strip(), location="header")
        case "query":
            return APIKeyAuth(name=auth.param, api_key=token, location="query")
        case "basic":
            return HttpBasicAuth(username=auth.user, password=auth.password.get_secret_value())
        case "oauth2":
            return client_credentials(auth.options, api.timeout_s, api.proxy_address)
        case _:
            return BearerTokenAuth(token) if token else None


def without_param(url: str, api: ApiSettings) -> str:
    """Return the URL without our key: a next link may hold it already, and it would be sent twice."""
    head, mark, query = url.partition("?")
    kept = [part for part in query.split("&") if part and part.partition("=")[0] != api.auth.param]
    return f"{head}{mark if kept else ''}{'&'.join(kept)}"

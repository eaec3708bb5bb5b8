"""Authenticates to the photos' host, by the configured kind. Credentials go to no other host and never unencrypted."""

from __future__ import annotations

import threading
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cropline.config.settings import FetchSettings
from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.addresses import Target, is_origin

if TYPE_CHECKING:
    from requests import PreparedRequest


class PhotoAuth:
    """Adds the configured credentials to requests. One per fetcher, shared by its threads."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._oauth: Any = None
        self._lock = threading.Lock()

    def sign(self, request: PreparedRequest, target: Target) -> None:
        """Sign a request to ``target``, if that host gets the token. Raise PhotoFailure."""
        settings, auth = self._settings, self._settings.auth
        token = settings.secret_token
        # Unencrypted only to this machine: a manifest must not be able to move the token out of TLS.
        private = target.scheme == "https" or (target.is_local and settings.proxy_address is None)
        if not (private and settings.token_host and is_origin(target, settings.token_host)):
            return
        match auth.kind:
            case "query":
                mark = "&" if "?" in target.path else "?"
                request.url = f"{target.url}{mark}{quote(auth.param, safe='')}={quote(token, safe='')}"
            case "header":
                request.headers[auth.header] = f"{auth.prefix} {token}".strip()
            case "basic":
                pair = f"{auth.user}:{auth.password.get_secret_value()}"
                request.headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
            case "oauth2":
                request.headers["Authorization"] = f"Bearer {self._access_token()}"
            case _ if token:
                request.headers["Authorization"] = f"Bearer {token}"

    def _access_token(self) -> str:
        """Return the current token. Fetch one when there is none or it expires soon."""
        from cropline.intake.sources.rest_oauth import client_credentials

        with self._lock:
            if self._oauth is None:
                self._oauth = client_credentials(
                    self._settings.auth, self._settings.timeout_s, self._settings.proxy_address
                )
            if self._oauth.access_token is None or self._oauth.is_token_expired():
                self._obtain()
            return str(self._oauth.access_token)

    def _obtain(self) -> None:
        import requests

        try:
            self._oauth.obtain_token()
        except (requests.RequestException, ValueError, TypeError, LookupError, AttributeError) as error:
            why = type(error).__name__
        else:
            return
        # Raised out here: the error holds the request, with its secret.
        raise PhotoFailure(
            "connection", f"no token for {self._settings.token_host}: AUTH__TOKEN_URL returned none ({why})"
        )

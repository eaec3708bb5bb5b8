"""Authenticates to the photos' host, by the configured kind. Credentials go to no other host and never unencrypted."""

from __future__ import annotations

import threading
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.addresses import is_origin

if TYPE_CHECKING:
    from cropline.core.crop_options import FetchOptions
    from fugue_jobs.fetching.transport import Request


class PhotoAuth:
    """Adds the configured credentials to requests. One per fetcher, shared by its threads."""

    def __init__(self, options: FetchOptions) -> None:
        self._options = options
        self._oauth: Any = None
        self._lock = threading.Lock()

    def sign(self, request: Request) -> None:
        """Sign a request, if its host gets the token. Raise PhotoFailure."""
        options, auth, target = self._options, self._options.auth, request.target
        # Unencrypted only to this machine: a manifest must not be able to move the token out of TLS.
        private = target.scheme == "https" or (target.is_local and options.proxy is None)
        if not (private and options.token_host and is_origin(target, options.token_host)):
            return
        match auth.kind:
            case "query":
                mark = "&" if "?" in target.path else "?"
                request.path += f"{mark}{quote(auth.param, safe='')}={quote(auth.token, safe='')}"
            case "header":
                request.headers[auth.header] = f"{auth.prefix} {auth.token}".strip()
            case "basic":
                pair = f"{auth.user}:{auth.password}"
                request.headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
            case "oauth2":
                request.headers["Authorization"] = f"Bearer {self._access_token()}"
            case _ if auth.token:
                request.headers["Authorization"] = f"Bearer {auth.token}"

    def _access_token(self) -> str:
        """Return the current token. Fetch one when there is none or it expires soon."""
        from cropline.intake.sources.rest_oauth import client_credentials

        with self._lock:
            if self._oauth is None:
                self._oauth = client_credentials(self._options.auth, self._options.timeout_s, self._options.proxy)
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
            "connection", f"no token for {self._options.token_host}: AUTH__TOKEN_URL returned none ({why})"
        )

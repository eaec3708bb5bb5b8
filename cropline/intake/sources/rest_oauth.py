"""OAuth 2 client credentials, as dlt implements them, with checks of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cropline.core.proxy import Proxy, requests_proxies

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials

    from cropline.core.crop_options import AuthOptions


def client_credentials(auth: AuthOptions, timeout_s: float, proxy: Proxy | None = None) -> OAuth2ClientCredentials:
    """Return an authentication that requests a token when it has none or its token is about to expire."""
    from dlt.sources.helpers.requests.session import Session
    from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials

    class Checked(OAuth2ClientCredentials):
        def parse_access_token(self, response_json: Any) -> str:
            token = response_json.get("access_token") if isinstance(response_json, dict) else None
            if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
                raise ValueError("no access token")
            return token

        def parse_expiration_in_seconds(self, response_json: Any) -> int:
            """Shorten the lifetime a little: a token must not expire in transit."""
            seconds = int(response_json.get("expires_in") or self.default_token_expiration)
            return max(1, min(seconds, 86_400) - 5)

    session = Session(timeout=timeout_s, raise_for_status=False)
    session.trust_env = False
    session.proxies = requests_proxies(proxy)
    return Checked(
        access_token_url=auth.token_url,
        client_id=auth.client_id,
        client_secret=auth.client_secret,
        access_token_request_data={"scope": auth.scope} if auth.scope else {},
        session=session,
    )

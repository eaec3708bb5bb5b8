"""Send one request to an API: authentication, retries, redirects, limits. Messages show no more of a URL than its host.

dlt provides the retries and the authentication.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from cropline.config.api import ApiSettings
from cropline.core.errors import ApiError, ApiRefused, ApiUnavailable
from cropline.core.proxy import requests_proxies
from cropline.core.request_logs import hush_targets
from cropline.intake.json_bytes import read_json
from cropline.intake.sources.rest_auth import auth_of, is_same_server, without_param
from cropline.intake.sources.rest_request import Ask

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

_TRANSIENT = (429, *range(500, 600))
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
# A waiting run occupies its slot.
LONGEST_WAIT = timedelta(seconds=30)
_LONGEST_WAITS_S = 60
_MOST_REMEMBERED = timedelta(days=1)


@dataclass(frozen=True)
class Answer:
    """The answer: the address that sent it, its links by relation, and the JSON."""

    url: str
    links: Mapping[str, str]
    body: Any


class StatusError(Exception):
    """The API still answered with an error status after the retries."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _AskedToWaitError(Exception):
    """The API asks for a longer wait than a run may occupy its slot."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Wire:
    """The connections to one API. Use as a context manager."""

    def __init__(self, api: ApiSettings) -> None:
        from dlt.sources.helpers.requests.retry import Client

        hush_targets()
        self._api = api
        self._waited = 0.0
        self._session = Client(
            request_timeout=api.timeout_s,
            raise_for_status=False,
            status_codes=_TRANSIENT,
            request_max_attempts=api.retries + 1,
            request_backoff_factor=0.5,
            request_max_retry_delay=LONGEST_WAIT.total_seconds(),
            session_attrs={"trust_env": False, "proxies": requests_proxies(api.proxy_address)},
        ).session
        self._auth = auth_of(api)

    def close(self) -> None:
        self._session.close()

    def ask(self, ask: Ask, *, once: bool = False) -> Answer:
        """Return the answer to one request. ``once``: without retries.

        Raise StatusError for an error status, ApiUnavailable or ApiRefused for everything else.
        """
        import requests

        where = f"the image API {self._api.listing}"
        try:
            response = self._follow(ask, once=once)
            return Answer(response.url or ask.url, _links(response), read_json(response.content, _charset(response)))
        except requests.HTTPError as error:
            failure: Exception = self._by_status(error.response, where)
            error.response.close()  # with an unread body, its connection is not in the pool that close() closes
        except _AskedToWaitError as wait:
            failure = asked_to_wait(where, wait.seconds)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            failure = ApiUnavailable(f"{where} cannot be reached{self._through(error)} ({type(error).__name__})")
        except requests.RequestException as error:
            failure = ApiRefused(f"{where} cannot be read ({type(error).__name__})")
        except ApiError as error:
            failure = error
        except UnicodeError:
            failure = ApiRefused(
                f"{where}: an address or a header of the request is not ASCII; check CROPLINE_API__..."
            )
        except ValueError:
            failure = ApiRefused(f"{where} answered something that is not JSON")
        # Raised outside the handler: the library's exception holds the whole URL and must not become the context.
        raise failure

    def _through(self, error: Exception) -> str:
        """Return the part of a message that names the proxy, where it is at fault. Its answer may quote a password."""
        import requests

        proxy = self._api.proxy_address
        if proxy is None:
            return ""
        hint = ": check user and password in CROPLINE_API__PROXY" if "407" in str(error) else ""
        at_fault = isinstance(error, requests.exceptions.ProxyError)
        return f"; the proxy {proxy.shown} fails{hint}" if at_fault else f" through the proxy {proxy.shown}"

    def _follow(self, ask: Ask, *, once: bool) -> Response:
        url, params, method = ask.url, ask.params, self._api.method
        renewed = False
        for _ in range(_MAX_REDIRECTS + 2):
            response = self._send(method, url, params, ask.json, once=once)
            if response.status_code == 401 and not renewed and self._renew():
                renewed = True
                continue
            if response.status_code >= 400:
                raise _http_error(response)
            if response.status_code not in _REDIRECTS:
                return response
            url = self._redirected(response, method)
            params = {}
        raise ApiRefused(f"the image API {self._api.listing} redirects more than {_MAX_REDIRECTS} times")

    def _send(
        self, method: str, url: str, params: dict[str, Any], json: dict[str, Any] | None, *, once: bool
    ) -> Response:
        import requests

        request = requests.Request(
            method,
            without_param(url, self._api) if self._api.auth.kind == "query" else url,
            headers={name: value.get_secret_value() for name, value in self._api.headers.items()},
            params=params,
            json=json,
            auth=self._auth,
            hooks={"response": [self._look_at_status, self._read_bounded]},
        )
        prepared = self._prepare(request)
        # ``once`` skips the retries, which replace the session's send.
        send: Callable[..., Response] = self._session.send
        if once:
            send = partial(type(self._session).send, self._session)
        return send(prepared, stream=True, allow_redirects=False)

    def _prepare(self, request: Any) -> PreparedRequest:
        """Prepare a request. With oauth2 this requests a token, whose errors differ from those of the listing."""
        import requests

        if self._api.auth.kind != "oauth2":
            return self._session.prepare_request(request)
        where = "CROPLINE_API__AUTH__TOKEN_URL"
        try:
            return self._session.prepare_request(request)
        except requests.HTTPError as error:
            status = error.response.status_code
            error.response.close()
            if status in _TRANSIENT:
                failure: ApiError = ApiUnavailable(f"{where} answers {status}: no token for the image API")
            else:
                failure = ApiRefused(f"{where} answers {status}; check CROPLINE_API__AUTH__CLIENT_ID and CLIENT_SECRET")
        except (requests.ConnectionError, requests.Timeout) as error:
            failure = ApiUnavailable(f"{where} cannot be reached ({type(error).__name__})")
        except (ValueError, TypeError, LookupError, AttributeError):  # dlt does not check the answer
            failure = ApiRefused(f"{where} returns no access_token")
        raise failure

    def _renew(self) -> bool:
        """Return whether a new token may help: the server may have revoked the old one early."""
        if self._api.auth.kind != "oauth2":
            return False
        self._auth.access_token = None  # type: ignore[union-attr]
        return True

    def _look_at_status(self, response: Response, *_args: Any, **_kwargs: Any) -> None:
        """Raise transient statuses, so that the retries see them. A long requested wait ends the retries."""
        if response.status_code not in _TRANSIENT:
            return
        seconds = retry_after(response.headers.get("Retry-After", ""))
        if seconds is not None:
            self._waited += seconds
            if seconds > LONGEST_WAIT.total_seconds() or self._waited > _LONGEST_WAITS_S:
                response.close()
                raise _AskedToWaitError(seconds)
        raise _http_error(response)

    def _read_bounded(self, response: Response, *_args: Any, **_kwargs: Any) -> None:
        """Read the body inside the retries, so that a broken connection is tried again."""
        if response.status_code >= 400:
            return
        limit = self._api.max_page_bytes
        data = bytearray()
        for chunk in response.iter_content(65_536):
            data += chunk
            if len(data) > limit:
                response.close()
                raise ApiRefused(
                    f"the image API {self._api.listing}: a page is larger than {limit} bytes; lower "
                    "CROPLINE_API__PAGE_SIZE, or raise CROPLINE_API__MAX_PAGE_BYTES"
                )
        response._content = bytes(data)

    def _redirected(self, response: Response, method: str) -> str:
        where = f"the image API {self._api.listing}"
        location = response.headers.get("Location", "")
        response.close()
        target = urljoin(response.url, location)
        if not location or not is_same_server(target, self._api):
            to = urlsplit(target).hostname
            raise ApiRefused(f"{where} redirects to {to}, which may not get our token; check CROPLINE_API__URL")
        if method == "POST" and response.status_code not in (307, 308):
            raise ApiRefused(f"{where} redirects a POST; check CROPLINE_API__URL and CROPLINE_API__IMAGES_PATH")
        return target

    def _by_status(self, response: Response, where: str) -> Exception:
        import requests

        status = response.status_code
        if status == 407 and self._api.proxy_address:
            return ApiUnavailable(f"{where} cannot be reached{self._through(requests.exceptions.ProxyError('407'))}")
        if status not in _TRANSIENT:
            return StatusError(status)
        seconds = retry_after(response.headers.get("Retry-After", ""))
        unavailable = ApiUnavailable(f"{where} answers {status}; the retries are used up")
        unavailable.wait = None if seconds is None else timedelta(seconds=seconds)
        return unavailable


def asked_to_wait(where: str, seconds: float) -> ApiUnavailable:
    """Return the error for a pause that the API asked for."""
    unavailable = ApiUnavailable(f"{where} asks to wait {seconds:.0f} s; it is not asked again until then")
    unavailable.wait = min(timedelta(seconds=seconds), _MOST_REMEMBERED)
    return unavailable


def retry_after(value: str) -> float | None:
    """Return the seconds of a Retry-After header, at most a day; None when it cannot be read."""
    value = value.strip()
    most = _MOST_REMEMBERED.total_seconds()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return min(float(value[:20]), most)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(seconds, most) if seconds > 0 else None


def _http_error(response: Response) -> Exception:
    import requests

    return requests.HTTPError(response=response)


def _charset(response: Response) -> str | None:
    match = re.search(r"charset=[\"']?([\w.:-]+)", response.headers.get("Content-Type", ""), re.IGNORECASE)
    return match[1] if match else None


def _links(response: Response) -> dict[str, str]:
    return {rel: link["url"] for rel, link in response.links.items() if link.get("url")}

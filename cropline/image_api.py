"""Reading the image API: pages of raw items, bounded and loop-free. Paging and retries are dlt's RESTClient.

Belongs here: the HTTP conversation with the listing. Does not: what an item means (manifest.py) or where the cursor is
kept (the state table). Messages name the host and path only: a query may hold a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cropline.errors import ApiError, ApiRefused, ApiUnavailable, SettingsError
from cropline.settings import ApiSettings

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import PageData, RESTClient
    from dlt.sources.helpers.rest_client.paginators import BasePaginator
    from requests import PreparedRequest, Request, Response

_TRANSIENT = (429, *range(500, 600))


def pages(api: ApiSettings, since: str) -> Iterator[list[Any]]:
    """The items updated since a moment (ISO 8601), a page at a time, as the API gives them.

    Ends after ``api.max_pages``; the caller sees from the number of pages that there may be more.
    Raises ApiUnavailable when the API does not answer after its retries, ApiRefused when it never will:
    not authorised, not JSON, no items where the settings say, a cursor that repeats, a next page on another host.
    """
    if not api.url:
        raise SettingsError("CROPLINE_API__URL: no image API is set; give its base address, http(s)://host[:port]")
    client = _client(api)
    params = {api.since_param: since, api.limit_param: api.page_size}
    paged = client.paginate(
        api.images_path,
        params=params,
        paginator=_paginator(api),
        data_selector=api.data_selector,
        hooks={"response": [_raise_for_status, _read_lenient_json]},
    )
    asked: set[str] = set()
    with client.session:
        for _ in range(api.max_pages):
            page = _next_page(paged, api)
            if page is None:
                return
            _check_items(page, api)
            if page.paginator.has_next_page:
                _check_next(page.request, api, asked)
            yield list(page)


def _next_page(paged: Iterator[PageData[Any]], api: ApiSettings) -> PageData[Any] | None:
    import requests

    where = _where(api)
    try:
        return next(paged, None)
    except requests.HTTPError as error:
        failure: ApiError = _by_status(error.response.status_code, where)
        error.response.close()  # its body was not read, so its connection is not in the pool that the session closes
    except requests.JSONDecodeError:
        failure = ApiRefused(f"{where} answered something that is not JSON")
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        failure = ApiUnavailable(f"{where} cannot be reached ({type(error).__name__})")
    except requests.RequestException as error:
        failure = ApiRefused(f"{where} cannot be read ({type(error).__name__})")
    except ValueError as error:  # a paginator that does not find what the settings promise
        failure = ApiRefused(f"{where}: the page does not fit paginator {api.paginator!r} ({type(error).__name__})")
    # Raised outside the handler: the library's exception holds the whole URL and must not ride along as context.
    raise failure


def _raise_for_status(response: Response, *_args: Any, **_kwargs: Any) -> None:
    """The error goes to the retries, and then to _next_page, which needs its status only."""
    import requests

    if response.status_code >= 400:
        raise requests.HTTPError(response=response)


def _read_lenient_json(response: Response, *_args: Any, **_kwargs: Any) -> None:
    """Read JSON with Python's own reader, which takes the NaN that Python services write.

    requests would use simplejson, an installed stranger, which refuses it: one bad number in one row would then make
    the whole page unreadable, at every poll. The row is for the expectations to judge.
    """
    import json

    import requests

    def read(**_: Any) -> Any:
        try:
            return json.loads(response.content)
        except ValueError:
            raise requests.JSONDecodeError("not JSON", "", 0) from None

    response.json = read  # type: ignore[method-assign]


def _by_status(status: int, where: str) -> ApiError:
    if status in _TRANSIENT:
        return ApiUnavailable(f"{where} answers {status}; the retries are used up")
    hint = {
        401: "; check CROPLINE_API__TOKEN",
        403: "; check CROPLINE_API__TOKEN",
        404: "; check CROPLINE_API__IMAGES_PATH",
    }
    return ApiRefused(f"{where} answers {status}{hint.get(status, '')}")


def _check_items(page: PageData[Any], api: ApiSettings) -> None:
    """dlt reads a page without items where the selector finds nothing at all; that must not pass for 'nothing new'."""
    from dlt.common import jsonpath

    found = list(page) or jsonpath.find_values(api.data_selector, page.response.json())
    if not found:
        raise ApiRefused(f"{_where(api)}: a page has no {api.data_selector!r}; check CROPLINE_API__DATA_SELECTOR")


def _check_next(request: Request | PreparedRequest, api: ApiSettings, asked: set[str]) -> None:
    """Refuse a next page that was read before, and one elsewhere: it would be sent our token."""
    url = str(request.url)
    if url.startswith(("http://", "https://")) and _origin(url) != _origin(api.url):
        raise ApiRefused(f"{_where(api)}: the next page lies on another host, {urlsplit(url).hostname}")
    asking = f"{url} {sorted((getattr(request, 'params', None) or {}).items())}"
    if asking in asked:
        raise ApiRefused(f"{_where(api)}: the API's pages loop: the same next page was announced twice")
    asked.add(asking)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _where(api: ApiSettings) -> str:
    return f"the image API {api.url}{api.images_path}"


def _client(api: ApiSettings) -> RESTClient:
    from dlt.common.configuration.specs import RuntimeConfiguration
    from dlt.sources.helpers.requests.retry import Client
    from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
    from dlt.sources.helpers.rest_client.client import RESTClient

    session = Client(
        request_timeout=api.timeout_s,
        raise_for_status=False,
        status_codes=_TRANSIENT,
        request_max_attempts=api.retries + 1,
        request_backoff_factor=0.5,
        request_max_retry_delay=60,
        session_attrs={"trust_env": False},
    ).session
    token = api.token.get_secret_value()
    return RESTClient(
        base_url=api.url,
        session=session,
        auth=BearerTokenAuth(token) if token else None,
        # Given, so that dlt does not go looking for its own configuration files.
        config=RuntimeConfiguration(http_show_error_body=False),
    )


def _paginator(api: ApiSettings) -> BasePaginator:
    from dlt.sources.helpers.rest_client import paginators

    match api.paginator:
        case "cursor":
            return paginators.JSONResponseCursorPaginator(cursor_path=api.cursor_path, cursor_param=api.cursor_param)
        case "header_link":
            return paginators.HeaderLinkPaginator()
        case "page_number":
            return paginators.PageNumberPaginator(base_page=1, total_path=None, stop_after_empty_page=True)
        case "offset":
            return paginators.OffsetPaginator(limit=api.page_size, total_path=None, stop_after_empty_page=True)
        case "single_page":
            return paginators.SinglePagePaginator()

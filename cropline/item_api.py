"""One image of the API by its id: how a fresh URL is asked for. The listing is image_api.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cropline import image_api, manifest
from cropline.errors import ApiError, ApiRefused, ApiUnavailable
from cropline.settings import ApiSettings

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient

# The id, and the item that the API gives of it; None: it was asked and has none.
Answer = tuple[str, dict[str, Any] | None]

_GONE = (404, 410)


def items(api: ApiSettings, image_ids: Sequence[str]) -> Iterator[Answer]:
    """Ask for each image once, one call each. Needs ``api.item_path``.

    Raises ApiUnavailable and ApiRefused as image_api.pages does; an image that the API does not have is a None.
    """
    client = image_api._client(api)
    with client.session:
        for image_id in image_ids:
            yield image_id, _item(client, api, image_id)


def _item(client: RESTClient, api: ApiSettings, image_id: str) -> dict[str, Any] | None:
    import requests

    where = f"the image API {api.url}{api.item_path.split('?')[0]}"
    path = api.item_path.replace("{image_id}", quote(image_id, safe=""))
    try:
        response = client.get(path, allow_redirects=False)
        status, content = response.status_code, response.content
        failure: ApiError | None = None
    except requests.HTTPError as error:
        status, content, failure = error.response.status_code, b"", None
        error.response.close()
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        status, content = 0, b""
        failure = ApiUnavailable(f"{where} cannot be reached ({type(error).__name__})")
    except requests.RequestException as error:
        status, content = 0, b""
        failure = ApiRefused(f"{where} cannot be read ({type(error).__name__})")
    # Raised outside the handler: the library's exception holds the whole URL and must not ride along as context.
    if failure is not None:
        raise failure
    if status in _GONE:
        return None
    if status == 429 or status >= 500:
        raise ApiUnavailable(f"{where} answers {status}; the retries are used up")
    if status != 200:
        hint = "; check CROPLINE_API__TOKEN" if status in (401, 403) else "; check CROPLINE_API__ITEM_PATH"
        raise ApiRefused(f"{where} answers {status}{hint}")
    return _of(_read(content, where), api, image_id)


def _read(content: bytes, where: str) -> Any:
    import json

    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ApiRefused(f"{where} answered something that is not JSON; check CROPLINE_API__ITEM_PATH") from None


def _of(body: Any, api: ApiSettings, image_id: str) -> dict[str, Any] | None:
    """The item as it stands in an answer: bare, in a list, or under the listing's selector; None when it is another's."""
    for item in _candidates(body, api):
        if isinstance(item, dict) and manifest.image_id(item, api) == image_id:
            return item
    return None


def _candidates(body: Any, api: ApiSettings) -> Iterator[Any]:
    from dlt.common import jsonpath

    yield body
    found = jsonpath.find_values(api.data_selector, body) if isinstance(body, dict) else []
    for value in [body, *found]:
        if isinstance(value, list):
            yield from value
        else:
            yield value


def spans(moments: Sequence[datetime], apart: timedelta) -> list[tuple[datetime, datetime]]:
    """The moments as spans from the first to the last of those that lie no further ``apart``."""
    found: list[tuple[datetime, datetime]] = []
    for moment in sorted(moments):
        if found and moment - found[-1][1] <= apart:
            found[-1] = (found[-1][0], moment)
        else:
            found.append((moment, moment))
    return found


def since(api: ApiSettings, moment: datetime | None) -> str:
    """From which update on a listing holds an image that was updated at a moment: the parameter may exclude its own."""
    return api.start if moment is None else (moment - timedelta(seconds=1)).astimezone(UTC).isoformat()

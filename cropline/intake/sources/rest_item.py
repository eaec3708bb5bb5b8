"""One image of the API by its id, to get a fresh URL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import quote

from cropline.config.api import ApiSettings
from cropline.core.errors import ApiRefused
from cropline.intake import manifest
from cropline.intake.sources.base import Answer, Leave
from cropline.intake.sources.rest_request import Ask
from cropline.intake.sources.rest_wire import StatusError, Wire

_GONE = (404, 410)
_WRAPPINGS = 2


def items(api: ApiSettings, image_ids: Sequence[str], leave: Leave = lambda: None) -> Iterator[Answer]:
    """Yield each image, with one request per image. Needs ``api.item_path``. ``leave``: see image_api.open_source.

    Yield (id, None) for an image that the API does not have. Raise ApiUnavailable and ApiRefused as
    RestSource.pages does.
    """
    # Server, authentication, headers and limits are those of the listing; the path differs, and there is no body.
    one = api.model_copy(update={"images_path": api.item_path, "method": "GET", "body": None})
    with closing(Wire(one)) as wire:
        for image_id in image_ids:
            leave()
            yield image_id, _item(wire, one, image_id)


def _item(wire: Wire, api: ApiSettings, image_id: str) -> dict[str, Any] | None:
    url = f"{api.url}{api.item_path.replace('{image_id}', quote(image_id, safe=''))}"
    try:
        return _of(wire.ask(Ask(url, {}, None)).body, api, image_id)
    except StatusError as error:
        status = error.status
    if status in _GONE:
        return None
    # Raised outside the handler: the error's context could show more of the address.
    hint = "TOKEN" if status in (401, 403) else "ITEM_PATH"
    raise ApiRefused(f"the image API {api.listing} answers {status}; check CROPLINE_API__{hint}")


def _of(body: Any, api: ApiSettings, image_id: str) -> dict[str, Any] | None:
    """Return the item from an answer: bare, in a list, under the listing's selector or another name; else None."""
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
    yield from _objects_in(body, _WRAPPINGS)


def _objects_in(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Yield the objects inside an object, outer ones first: ``{"image": ...}``, ``{"data": {"image": ...}}``."""
    inner = [part for part in value.values() if isinstance(part, dict)] if isinstance(value, dict) else []
    yield from inner
    if depth > 1:
        for part in inner:
            yield from _objects_in(part, depth - 1)

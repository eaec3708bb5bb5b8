"""Proposals for an API that is known only by an address and a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from cropline.config.api import ApiSettings
from cropline.core.errors import ApiRefused, SettingsError
from cropline.intake.item_url import photo_url
from cropline.intake.proposals.asking import Address, Asker, Reply, take_apart
from cropline.intake.proposals.boxes import BoxForm, find_boxes, propose_unit
from cropline.intake.proposals.fields import propose_fields
from cropline.intake.proposals.items import find_items, other_lists, photo_path
from cropline.intake.proposals.paging import Paging
from cropline.intake.proposals.proposal import Proposal, at_path, number_of

PhotoSize = Callable[[str], tuple[int, int] | None]
_PATHS = ("", "/v1/images", "/images", "/api/v1/images", "/api/images", "/v1/photos", "/photos", "/api/photos")
_LOOKED_AT = 50
_KINDS: tuple[dict[str, str], ...] = (
    {"kind": "bearer"},
    {"kind": "header", "header": "X-Api-Key"},
    {"kind": "header", "header": "Authorization", "prefix": "Token"},
    {"kind": "query", "param": "api_key"},
)


@dataclass(frozen=True)
class Given:
    """What the user gives. ``auth``: settings of the auth group, when it is known; ``headers``: by name."""

    address: str
    token: SecretStr = field(default_factory=lambda: SecretStr(""))
    auth: Mapping[str, Any] = field(default_factory=dict)
    method: str = "GET"
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    url_base: str = ""
    pause_s: float = 0.2


@dataclass(frozen=True)
class Proposed:
    """The proposals, without secrets; ``items``: what the page held; ``requests``: how many were made."""

    proposals: list[Proposal]
    items: list[dict[str, Any]]
    requests: int
    needs_token: bool


def propose(given: Given, photo_size: PhotoSize = lambda _url: None) -> Proposed:
    """Look at an API and return proposals for its settings. ``photo_size``: width and height of a photo, if it can be had.

    Raise SettingsError for a wrong address, ApiRefused when no page is found.
    """
    try:
        address = take_apart(given.address)
    except ValueError as error:
        raise SettingsError(f"--url: {error}") from None
    asker, reply, base, found = _first_page(given, address)
    list_found, selector = find_items(reply.body)
    if list_found is None or selector is None:
        lists = other_lists(reply.body)
        what = f"its lists are {', '.join(lists)}" if lists else "it has no list of objects"
        raise ApiRefused(f"the page of {asker.api.listing} has no items with an address of a photo; {what}")
    items = list_found.items[:_LOOKED_AT]
    form = find_boxes(items)

    def items_of(body: Any) -> list[Any]:
        again, _ = find_items(body)
        return again.items if again is not None else []

    per_item = form is not None and form.per_item
    fields = propose_fields(items, given.url_base, asker.api.url, one_box_each=per_item)
    time_format = next((str(one.value) for one in fields if one.setting == "time_format"), "iso")
    proposals = [*found, selector]
    proposals += Paging(asker, reply, items_of, address.roles, base, time_format).proposals()
    proposals += fields
    proposals += _boxes(form, items, given.url_base or asker.api.url, photo_size)
    needs = asker.api.auth.kind not in ("", "basic") or bool(asker.api.secret_token)
    return Proposed(proposals, items, asker.asked, needs)


def _boxes(
    form: BoxForm | None, items: Sequence[dict[str, Any]], url_base: str, photo_size: PhotoSize
) -> Iterator[Proposal]:
    if form is None:
        yield Proposal("fields.boxes", "boxes", "no field of an item looks like boxes", certain=False)
        return
    yield from form.proposals
    size = None
    if 1.05 < form.largest <= 105:
        path = photo_path(items[0]) or ()
        size = photo_size(photo_url(str(at_path(items[0], path)), url_base))
    yield propose_unit(form, [] if form.per_item else _declared(items), size)


def _declared(items: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    sizes = [(number_of(item.get("width")), number_of(item.get("height"))) for item in items]
    return [(width, height) for width, height in sizes if width and height]


def _first_page(given: Given, address: Address) -> tuple[Asker, Reply, dict[str, Any], list[Proposal]]:
    """Return the first good answer, how it was asked, and the proposals that say so."""
    tried: list[str] = []
    paths = [address.path] if address.path else list(_PATHS)
    for path in paths:
        for auth, token, why in _auths(given, address):
            api = _api(given, address.url, path, auth, token)
            asker = Asker(api, given.pause_s)
            for params in _params(address, api):
                reply = asker.ask(params)
                if reply.good and (find_items(reply.body)[0] is not None or path == paths[-1]):
                    return asker, reply, params, [*_told(given, address, path, auth, why)]
                tried.append(f"{path or '/'} {reply.why or 'has no items'}")
                if reply.status in (401, 403):
                    break
            else:
                break  # not a matter of authentication
    raise ApiRefused(f"no page of items at {address.url}: {'; '.join(dict.fromkeys(tried))}")


def _params(address: Address, api: ApiSettings) -> Iterator[dict[str, Any]]:
    """Yield the parameters of a first request: those of the given address, none, and what cropline sends by default."""
    given = {name: value for role, (name, value) in address.roles.items() if role != "cursor"}
    if given:
        yield given
    yield {}
    if api.method == "GET" and not given:
        yield {"updated_after": "1970-01-01T00:00:00Z", "limit": "50"}
        yield {"limit": "50"}


def _auths(given: Given, address: Address) -> Iterator[tuple[dict[str, Any], SecretStr, str]]:
    token = given.token if given.token.get_secret_value() else SecretStr(address.secret[1] if address.secret else "")
    if given.auth:
        yield dict(given.auth), token, "as given"
    elif address.secret:
        yield {"kind": "query", "param": address.secret[0]}, token, "a parameter of the given address is a key"
    elif token.get_secret_value():
        for kind in _KINDS:
            yield dict(kind), token, "the API answers with it"
    else:
        yield {}, token, "the API answers without a token"


def _api(given: Given, url: str, path: str, auth: Mapping[str, Any], token: SecretStr) -> ApiSettings:
    return ApiSettings.model_validate(
        {
            "url": url,
            "images_path": path,
            "token": token if auth.get("kind") not in ("basic", "oauth2") else "",
            "auth": dict(auth),
            "method": given.method,
            "body": given.body,
            "headers": dict(given.headers),
            "since_param": "",
            "since_format": "iso_z",
            "limit_param": "",
            "paginator": "offset" if "{offset}" in str(given.body) else "single_page",
            "retries": 0,
            "timeout_s": 30,
        }
    )


def _told(given: Given, address: Address, path: str, auth: Mapping[str, Any], why: str) -> Iterator[Proposal]:
    yield Proposal("url", address.url, "as given")
    yield Proposal(
        "images_path", path, "as given" if address.path else "the first usual path with items", bool(address.path)
    )
    if given.method != "GET":
        yield Proposal("method", given.method, "as given")
    if given.body is not None:
        yield Proposal("body", dict(given.body), "as given")
        if "{since}" in str(given.body):
            yield Proposal("since_format", "iso_z", "the API answers with it", certain=False)
    for name, value in auth.items():
        if not isinstance(value, SecretStr):
            yield Proposal(f"auth.{name}", value, why)
    if given.url_base:
        yield Proposal("url_base", given.url_base, "as given")

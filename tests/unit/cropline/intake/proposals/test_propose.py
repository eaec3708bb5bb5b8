"""cropline init against APIs of known shapes: what it proposes reads the listing, whole and right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from cropline.config.settings import ApiSettings
from cropline.core.errors import ApiRefused, SettingsError
from cropline.intake import image_api, manifest
from cropline.intake.proposals.propose import Given, Proposed, propose
from tests.unit.cropline.intake.sources.listing_server import Answer, Listing, page
from tests.unit.cropline.intake.sources.shapes import SHAPES, iso

KEY = SecretStr("secret-key")
SEARCH = {"filter": {"changed": {"gte": "{since}"}}, "from": "{offset}", "size": "{limit}"}
GRAPHQL = {
    "query": "query { images { nodes { id } } }",
    "variables": {"since": "{since}", "after": "{cursor}", "n": "{limit}"},
}
BASIC = {"kind": "basic", "user": "me", "password": KEY}
# Shape, path, what the user gives, and what no page can tell.
CASES: list[tuple[int, str, dict[str, Any], dict[str, Any]]] = [
    (0, "/v1/images", {"token": KEY}, {}),
    (1, "/v1/images?p=0&per_page=2&after=0", {"auth": BASIC}, {}),
    (2, "/v1/images?tenant=acme", {"token": KEY, "method": "POST", "body": SEARCH}, {}),
    (3, "/graphql", {"token": KEY, "method": "POST", "body": GRAPHQL}, {}),
    (
        4,
        "/v1/images?key=secret-key",
        {"url_base": "https://cdn.example.com/media"},
        {"time_zone": "Europe/Berlin", "coordinates": "percent"},
    ),
    (5, "/v1/images", {"token": KEY}, {}),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Listing]:
    listing = Listing()
    yield listing
    listing.close()


@pytest.fixture
def api(server: Listing) -> Listing:
    for log in (server.requests, server.paths, server.bodies):
        log.clear()
    return server


def shaped(api: Listing, number: int) -> None:
    def script(query: dict[str, list[str]], headers: dict[str, str]) -> Answer:
        body = api.bodies[-1] if api.bodies else None
        try:
            return SHAPES[number](api.paths[-1], {name: values[0] for name, values in query.items()}, headers, body)
        except (KeyError, ValueError):  # the shape's own way to refuse a request
            return 400, {}, b"{}"

    api.script = script


def looked_at(api: Listing, path: str = "/v1/images", **given: Any) -> Proposed:
    return propose(Given(api.url + path, pause_s=0, **given), given.pop("photo_size", lambda _url: None))


def values(found: Proposed) -> dict[str, Any]:
    return {one.setting: one.value for one in found.proposals}


def settings(found: Proposed, **more: Any) -> ApiSettings:
    tree: dict[str, Any] = {"retries": 0}
    for name, value in (values(found) | more).items():
        group, _, inner = name.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[inner] = value
    return ApiSettings.model_validate(tree)


@pytest.mark.parametrize(("number", "path", "given", "unknowable"), CASES, ids=[SHAPES[n].__name__ for n, *_ in CASES])
def test_the_proposed_settings_read_the_listing_of_a_shape(
    api: Listing, number: int, path: str, given: dict[str, Any], unknowable: dict[str, Any]
) -> None:
    shaped(api, number)
    found = looked_at(api, path, **given)
    for setting in unknowable:
        assert [one.certain for one in found.proposals if one.setting == setting] == [False], "it is marked"
    secret: dict[str, Any] = {"auth.password": KEY} if "auth" in given else {"token": KEY}
    read = settings(found, page_size=2, **secret, **unknowable)
    rows = [
        manifest.manifest_row(0, item, read)
        for part in image_api.pages(read, "2026-04-01T00:00:00+00:00")
        for item in part
    ]
    assert {row["captured_at"] for row in rows} == {datetime(2026, 4, day, 8, tzinfo=UTC) for day in range(10, 15)}
    assert len({row["image_id"] for row in rows}) == 5
    for row in rows:
        assert row["unreadable"] == []
        assert row["version"]
        assert row["updated_at"] == row["captured_at"]
        assert row["url"].startswith("https://cdn.example.com/")
        scale = 1 if row["coordinates"] == "pixels" else 100
        box = row["boxes"][0]
        corners = [round(box[edge] * scale) for edge in ("xmin", "ymin", "xmax", "ymax")]
        assert corners in ([10, 20, 40, 60], [11, 20, 41, 60])  # one row a box: the second box of a photo


def test_the_same_answers_give_the_same_proposals_without_a_secret(api: Listing) -> None:
    shaped(api, 0)
    first, second = looked_at(api, token=KEY), looked_at(api, token=KEY)
    assert first.proposals == second.proposals
    assert "secret-key" not in repr(first)


def item(number: int = 0, **more: Any) -> dict[str, Any]:
    box = {"id": "b0", "label": "cola", "xmin": 0.1, "ymin": 0.2, "xmax": 0.4, "ymax": 0.6}
    return {"id": f"p{number}", "etag": "v", "url": f"https://cdn.example.com/{number}.jpg", "captured_at": iso(number),
            "updated_at": iso(number), "boxes": [box]} | more  # fmt: skip


def filtered(name: str, read: Any) -> Any:
    """Return a listing of five items that is limited by a start time of one form, and refuses others."""

    def script(query: dict[str, list[str]], _headers: dict[str, str]) -> Answer:
        try:
            since = read(query[name][0]) if name in query else datetime(1970, 1, 1, tzinfo=UTC)
        except ValueError:
            return 422, {}, b"{}"
        return page([item(n) for n in range(5) if datetime.fromisoformat(iso(n)) >= since])

    return script


@pytest.mark.parametrize(
    ("name", "kind", "read"),
    [
        ("updated_since", "iso_z", lambda text: datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)),
        ("after", "epoch_ms", lambda text: datetime.fromtimestamp(int(text) / 1000, UTC)),
        ("since", "epoch_s", lambda text: datetime.fromtimestamp(min(int(text), 2**37), UTC)),
        ("from_date", "date", lambda text: datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)),
    ],
)
def test_the_parameter_of_the_start_time_is_found_by_what_it_does(
    api: Listing, name: str, kind: str, read: Any
) -> None:
    api.script = filtered(name, read)
    found = values(looked_at(api))
    assert (found["since_param"], found["since_format"]) == (name, kind)


def test_a_listing_without_a_start_time_is_marked(api: Listing) -> None:
    api.script = lambda query, headers: page([item(n) for n in range(3)])
    found = looked_at(api)
    marked = {one.setting: one.value for one in found.proposals if not one.certain}
    assert marked["since_param"] == ""
    assert marked["limit_param"] == ""


def test_photos_declare_or_show_which_unit_their_boxes_have(api: Listing) -> None:
    box = {"id": "b", "label": "l", "xmin": 10, "ymin": 20, "xmax": 90, "ymax": 95}
    api.script = lambda query, headers: page([item(n, boxes=[box]) for n in range(3)])
    given = Given(f"{api.url}/v1/images", pause_s=0)
    assert values(propose(given, lambda _url: (4000, 3000)))["coordinates"] == "percent"
    assert values(propose(given, lambda _url: (100, 100)))["coordinates"] == "pixels"
    (unit,) = [one for one in propose(given).proposals if one.setting == "coordinates"]
    assert (unit.value, unit.certain) == ("pixels", False)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (lambda query, headers: (401, {}, b""), "answers 401"),
        (lambda query, headers: (200, {}, b"<html>"), "not JSON"),
        (lambda query, headers: page([]), "no items with an address of a photo; it has no list of objects"),
        (lambda query, headers: page([{"id": 1}]), "no items with an address of a photo; its lists are images"),
        (
            lambda query, headers: (200, {}, json.dumps({"errors": [{"message": "no"}]}).encode()),
            "its lists are errors",
        ),
    ],
)
def test_an_api_that_cannot_be_read_is_one_line(api: Listing, script: Any, says: str) -> None:
    api.script = script
    with pytest.raises(ApiRefused, match=says) as caught:
        looked_at(api, token=KEY)
    assert "\n" not in str(caught.value)
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize("address", ["ftp://x/y", "https://me:secret@x/y", "cameras", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="^--url: must be http"):
        propose(Given(address))


def test_a_key_in_the_address_becomes_authentication_and_is_not_proposed(api: Listing) -> None:
    api.script = lambda query, headers: page([item()]) if query.get("api_key") == ["hush"] else (401, {}, b"")
    found = looked_at(api, "/v1/images?api_key=hush&tenant=a")
    assert values(found)["auth.param"] == "api_key"
    assert values(found)["images_path"] == "/v1/images?tenant=a"
    assert found.needs_token
    assert "hush" not in repr(found.proposals)


def test_a_base_address_is_tried_with_the_usual_paths(api: Listing) -> None:
    api.script = lambda query, headers: page([item()]) if api.paths[-1].startswith("/photos") else (404, {}, b"")
    (path,) = [one for one in looked_at(api, "").proposals if one.setting == "images_path"]
    assert (path.value, path.certain) == ("/photos", False)

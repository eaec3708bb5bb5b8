"""The listing is read to its end, within limits, and each kind of fault has a separate error."""

import logging
from typing import Any

import pytest

from cropline.config.settings import ApiSettings
from cropline.core.errors import ApiRefused, ApiUnavailable, SettingsError
from cropline.intake.image_api import pages
from tests.unit.cropline.intake.sources.listing_server import Answer, Listing, listing, page

__all__ = ["listing"]

SINCE = "2026-11-22T00:00:00+00:00"


def settings(listing: Listing, **changes: Any) -> ApiSettings:
    return ApiSettings(**({"url": listing.url, "token": "canary-token", "retries": 1, "page_size": 2} | changes))


def test_pages_are_read_to_the_end_with_token_and_bounds(listing: Listing) -> None:
    listing.script = lambda query, _: {None: page([1, 2], "x"), "x": page([3], None)}[query.get("cursor", [None])[0]]
    assert list(pages(settings(listing), SINCE)) == [[1, 2], [3]]
    query, headers = listing.requests[0]
    assert query == {"updated_after": [SINCE], "limit": ["2"]}
    assert headers["Authorization"] == "Bearer canary-token"


@pytest.mark.parametrize("items", [[], [{"id": "only"}], [[1]]])
def test_pages_of_none_one_or_odd_items_come_as_they_are(listing: Listing, items: list[Any]) -> None:
    listing.script = lambda query, _: page(items)
    assert list(pages(settings(listing), SINCE)) == [items]


def test_a_number_that_is_no_json_spoils_its_row_not_its_page(listing: Listing) -> None:
    listing.script = lambda query, _: (200, {}, b'{"images": [{"x": NaN}, {"x": 1}], "next_cursor": null}')
    [[bad, good]] = list(pages(settings(listing), SINCE))
    assert bad["x"] != bad["x"]
    assert good == {"x": 1}


def test_a_cursor_loop_is_refused_not_followed(listing: Listing) -> None:
    listing.script = lambda query, _: page([1], "same")
    with pytest.raises(ApiRefused, match="loop"):
        list(pages(settings(listing), SINCE))
    assert len(listing.requests) == 2


def test_a_poll_stops_at_its_bound(listing: Listing) -> None:
    listing.script = lambda query, _: page([len(listing.requests)], f"c{len(listing.requests)}")
    assert len(list(pages(settings(listing, max_pages=3), SINCE))) == 3
    assert len(listing.requests) == 3


def test_a_busy_api_is_asked_again_after_its_retry_after(listing: Listing) -> None:
    def script(query: dict[str, list[str]], headers: dict[str, str]) -> Answer:
        return (429, {"Retry-After": "1"}, b"") if len(listing.requests) == 1 else page([1])

    listing.script = script
    assert list(pages(settings(listing), SINCE)) == [[1]]
    assert len(listing.requests) == 2


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        ((500, {}, b"boom canary-body"), ApiUnavailable, "answers 500"),
        ((401, {}, b""), ApiRefused, "answers 401; check CROPLINE_API__TOKEN"),
        ((404, {}, b""), ApiRefused, "answers 404; check CROPLINE_API__IMAGES_PATH"),
        ((200, {}, b"<html>canary-body</html>"), ApiRefused, "not JSON"),
        ((200, {}, b'{"pictures": []}'), ApiRefused, "no 'images'"),
    ],
)
def test_every_failure_has_its_error_and_no_secret(
    listing: Listing, caplog: pytest.LogCaptureFixture, answer: Answer, error: type[Exception], says: str
) -> None:
    caplog.set_level(logging.INFO)
    listing.script = lambda query, _: answer
    with pytest.raises(error, match=says) as caught:
        list(pages(settings(listing), SINCE))
    assert caught.value.__context__ is None
    assert "canary" not in str(caught.value) + caplog.text


def test_a_next_page_on_another_host_never_gets_the_token(listing: Listing) -> None:
    other = Listing()
    try:
        link = {"Link": f'<{other.url}/v1/images?page=2>; rel="next"'}
        listing.script = lambda query, _: (200, link, b'{"images": [1]}')
        with pytest.raises(ApiRefused, match="another host"):
            list(pages(settings(listing, paginator="header_link"), SINCE))
        assert other.requests == []
    finally:
        other.close()


def test_an_api_that_is_down_is_unavailable() -> None:
    down = Listing()
    down.close()
    with pytest.raises(ApiUnavailable, match="cannot be reached"):
        list(pages(ApiSettings(url=down.url, retries=0), SINCE))


@pytest.mark.parametrize("kind", ["page_number", "offset"])
def test_counting_paginators_end_at_an_empty_page(listing: Listing, kind: str) -> None:
    items = [1, 2, 3, 4]

    def script(query: dict[str, list[str]], _: dict[str, str]) -> Answer:
        start = int(query["offset"][0]) if kind == "offset" else 2 * (int(query["page"][0]) - 1)
        return page(items[start : start + 2] if start >= 0 else [])

    listing.script = script
    got = list(pages(settings(listing, paginator=kind), SINCE))
    assert [item for some in got for item in some] == items


def test_without_an_address_the_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="CROPLINE_API__URL"):
        list(pages(ApiSettings(), SINCE))

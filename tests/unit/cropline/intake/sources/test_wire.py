"""Authentication, the hosts that may get our secrets, the waits, and that no message shows a query."""

import json
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar

import pytest

from cropline.config.settings import ApiSettings, Settings
from cropline.core.errors import ApiError, ApiRefused, ApiUnavailable
from cropline.intake.image_api import pages
from cropline.intake.sources.rest_auth import is_same_server
from cropline.intake.sources.rest_wire import retry_after
from cropline.lineage import datasets
from tests.unit.cropline.intake.sources.listing_server import Answer, Listing, listing, page

__all__ = ["listing"]

SINCE = "2026-11-22T00:00:00+00:00"
Sent = tuple[dict[str, list[str]], dict[str, str]]


def read(listing: Listing, **changes: Any) -> list[Any]:
    settings = ApiSettings(**({"url": listing.url, "retries": 0} | changes))
    return [item for items in pages(settings, SINCE) for item in items]


@pytest.mark.parametrize(
    ("changes", "header", "value"),
    [
        ({"token": "k-1"}, "Authorization", "Bearer k-1"),
        ({"token": "k-1", "auth": {"kind": "bearer"}}, "Authorization", "Bearer k-1"),
        ({"token": "k-1", "auth": {"kind": "header", "header": "X-Api-Key"}}, "X-Api-Key", "k-1"),
        ({"auth": {"kind": "header", "prefix": "Token", "token": "k-1"}}, "Authorization", "Token k-1"),
        ({"auth": {"kind": "basic", "user": "user", "password": "pw"}}, "Authorization", "Basic dXNlcjpwdw=="),
        ({"headers": {"X-Api-Key": "k-1"}}, "X-Api-Key", "k-1"),
    ],
)
def test_who_asks_is_said_as_the_settings_say(
    listing: Listing, changes: dict[str, Any], header: str, value: str
) -> None:
    listing.script = lambda query, headers: page([1]) if headers.get(header) == value else (401, {}, b"")
    assert read(listing, **changes) == [1]


def test_a_key_in_the_query_goes_with_every_page_once(listing: Listing) -> None:
    def script(query: dict[str, list[str]], _: dict[str, str]) -> Answer:
        if "page" in query:
            return 200, {}, b'{"images": [2], "next": null}'
        return 200, {}, json.dumps({"images": [1], "next": listing.paths[0] + "&page=two"}).encode()

    listing.script = script
    changes = {"auth": {"kind": "query", "param": "key", "token": "k-1"}, "paginator": "next_url"}
    assert read(listing, **changes) == [1, 2]
    assert [query["key"] for query, _ in listing.requests] == [["k-1"], ["k-1"]]


class TestClientCredentials:
    auth: ClassVar = {"kind": "oauth2", "client_id": "me", "client_secret": "canary-secret", "scope": "read"}

    def test_a_token_is_fetched_kept_and_renewed_when_it_is_refused(self, listing: Listing) -> None:
        given: list[str] = []

        def script(query: dict[str, list[str]], headers: dict[str, str]) -> Answer:
            if listing.paths[-1] == "/token":
                given.append(f"t{len(given)}")
                return 200, {}, json.dumps({"access_token": given[-1], "expires_in": 3600}).encode()
            if headers.get("Authorization") != f"Bearer {given[-1]}" or (len(given) == 1 and "cursor" in query):
                return 401, {}, b""
            return page([len(given)], None if "cursor" in query else "c")

        self.scripted(listing, script)
        assert read(listing, auth=self.auth | {"token_url": f"{listing.url}/token"}) == [1, 2]

    def scripted(self, listing: Listing, script: Any) -> None:
        # The token request is a form, which the fixture would read as JSON.
        listing.script = script
        listing.form_paths.add("/token")

    @pytest.mark.parametrize(
        ("answer", "error", "says"),
        [
            ((401, {}, b"canary-body"), ApiRefused, "TOKEN_URL answers 401; check CROPLINE_API__AUTH__CLIENT_ID"),
            ((503, {}, b""), ApiUnavailable, "TOKEN_URL answers 503"),
            ((200, {}, b"{}"), ApiRefused, "returns no access_token"),
            ((200, {}, b"[]"), ApiRefused, "returns no access_token"),
            ((200, {}, b"<html>"), ApiRefused, "returns no access_token"),
        ],
    )
    def test_a_token_that_is_not_given_names_its_settings(
        self, listing: Listing, answer: Answer, error: type[ApiError], says: str
    ) -> None:
        self.scripted(listing, lambda query, headers: answer)
        with pytest.raises(error, match=says) as caught:
            read(listing, auth=self.auth | {"token_url": f"{listing.url}/token"})
        assert "canary" not in str(caught.value)
        assert caught.value.__context__ is None


def test_a_redirect_on_the_same_server_is_followed_with_our_key(listing: Listing) -> None:
    def script(query: dict[str, list[str]], headers: dict[str, str]) -> Answer:
        if listing.paths[-1].startswith("/v1"):
            return 307, {"Location": "/v2/images?x=1"}, b""
        return page([headers.get("X-Key")])

    listing.script = script
    assert read(listing, auth={"kind": "header", "header": "X-Key", "token": "k-1"}) == ["k-1"]


@pytest.mark.parametrize("kind", ["header", "bearer", "query"])
def test_a_redirect_to_another_server_gets_nothing(listing: Listing, kind: str) -> None:
    other = Listing()
    try:
        listing.script = lambda query, _: (302, {"Location": f"{other.url}/v1/images?api_key=canary"}, b"")
        with pytest.raises(ApiRefused, match="redirects to 127.0.0.1") as caught:
            read(listing, auth={"kind": kind, "token": "canary-token"})
        assert other.requests == []
        assert "canary" not in str(caught.value)
    finally:
        other.close()


def test_a_redirect_in_circles_ends(listing: Listing) -> None:
    listing.script = lambda query, _: (302, {"Location": "/v1/images"}, b"")
    with pytest.raises(ApiRefused, match="redirects more than"):
        read(listing)


@pytest.mark.parametrize(
    ("base", "link", "same"),
    [
        ("http://a.example", "https://a.example/x", True),
        ("http://a.example:80", "https://a.example/x", True),
        ("https://a.example", "https://a.example:443/x", True),
        ("https://a.example", "http://a.example/x", False),
        ("http://a.example:8080", "https://a.example:8080/x", True),
        ("http://a.example:8080", "https://a.example/x", False),
        ("http://a.example", "http://b.example/x", False),
        ("http://a.example", "http://a.example@b.example/x", False),
        ("http://a.example", "http://b.example\\@a.example/x", False),
        ("http://a.example", "http://a.example:nope/x", False),
        ("http://a.example", "ftp://a.example/x", False),
    ],
)
def test_our_token_goes_to_the_same_host_or_up_to_tls(base: str, link: str, same: bool) -> None:
    assert is_same_server(link, ApiSettings(url=base)) is same


def test_a_next_link_down_to_clear_text_is_refused_with_its_reason() -> None:
    from cropline.intake.sources.rest_answer import following
    from cropline.intake.sources.rest_wire import Answer as Read

    api = ApiSettings(url="https://a.example", token="canary", paginator="next_url")
    with pytest.raises(ApiRefused, match="announced as http although CROPLINE_API__URL is https") as caught:
        following(Read("https://a.example/v1/images", {}, {"next": "http://a.example/v1/images?p=canary"}), api)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("600", 600), (" 7 ", 7), ("0", 0), ("1.5", 1.5), ("9" * 400, 86_400), ("soon", None), ("", None), ("-5", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None), ("Thu, 99 Foo 20260 99:99:99 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_as_seconds(value: str, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_retry_after_may_be_a_date() -> None:
    at = datetime.now(UTC) + timedelta(minutes=10)
    assert 500 < (retry_after(format_datetime(at, usegmt=True)) or 0) <= 600


@pytest.mark.parametrize("status", [429, 503])
def test_a_long_retry_after_ends_at_once_and_is_kept(listing: Listing, status: int) -> None:
    listing.script = lambda query, _: (status, {"Retry-After": "600"}, b"")
    with pytest.raises(ApiUnavailable, match="asks to wait 600 s") as caught:
        read(listing, retries=5)
    assert caught.value.wait == timedelta(seconds=600)
    assert len(listing.requests) == 1


CANARY = "canary7281"


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"images_path": f"/v1/images?api_key={CANARY}"}, (403, {}, b"")),
        ({"images_path": f"/v1/images?api_key={CANARY}"}, (500, {}, b"")),
        ({"images_path": f"/v1/images?api_key={CANARY}"}, (200, {}, b"<html>")),
        ({"images_path": f"/v1/images?api_key={CANARY}"}, (200, {}, b'{"x": []}')),
        ({"images_path": f"/v1/images?api_key={CANARY}"}, (200, {}, b'{"images": [1], "next_cursor": {}}')),
        ({"images_path": f"/v1/images#{CANARY}"}, (403, {}, b"")),
        ({"params": {"api_key": CANARY}}, (403, {}, b"")),
        ({"params": {"api_key": CANARY}}, (429, {"Retry-After": "600"}, b"")),
        ({"auth": {"kind": "query", "token": CANARY}}, (302, {"Location": f"http://b.example/?k={CANARY}"}, b"")),
        ({"paginator": "next_url"}, (200, {}, b'{"images": [1], "next": "http://b.example/?k=canary7281"}')),
        ({"paginator": "next_url"}, (200, {}, b'{"images": [1], "next": "http://[::1?k=canary7281"}')),
        (
            {"paginator": "header_link"},
            (200, {"Link": f'<http://b.example/?k={CANARY}>; rel="next"'}, b'{"images": [1]}'),
        ),
        ({"method": "POST", "body": {"key": CANARY}}, (403, {}, b"")),
        ({"headers": {"X-Key": CANARY}}, (403, {}, b"")),
    ],
)
def test_no_part_of_a_query_or_secret_is_shown(
    listing: Listing, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], answer: Answer
) -> None:
    caplog.set_level(logging.DEBUG)
    listing.script = lambda query, _: answer
    with pytest.raises(ApiError) as caught:
        read(listing, **changes)
    settings = ApiSettings(**({"url": listing.url} | changes))
    shown = f"{caught.value} {caught.value.__context__} {caught.value.__cause__} {caplog.text} {settings!r}"
    assert CANARY not in shown


def test_a_warning_about_an_answer_shows_no_query(listing: Listing, caplog: pytest.LogCaptureFixture) -> None:
    read(listing, images_path=f"/v1/images?api_key={CANARY}")
    caplog.clear()
    logging.getLogger("urllib3.connection").warning(
        "Failed to parse headers (url=%s): %s", f"http://a/?k={CANARY}", CANARY
    )
    assert caplog.messages == ["Failed to parse headers"]


def test_an_api_that_closes_without_an_answer_shows_no_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    down = Listing()
    down.close()
    with pytest.raises(ApiUnavailable) as caught:
        read(down, images_path=f"/v1/images?api_key={CANARY}", retries=1)
    assert CANARY not in f"{caught.value} {caught.value.__context__} {caplog.text}"


def test_a_page_without_end_is_left(listing: Listing) -> None:
    listing.script = lambda query, _: page(["x" * 50_000])
    with pytest.raises(ApiRefused, match="CROPLINE_API__MAX_PAGE_BYTES"):
        read(listing, max_page_bytes=10_000)


def test_lineage_names_the_listing_without_its_query() -> None:
    api = ApiSettings(url="https://cameras.example/base", images_path=f"/v1/images?key={CANARY}")
    assert datasets.api(Settings(api=api)) == ("https://cameras.example", "/base/v1/images")

"""A photo's host gets our credentials in the way that the settings say; no other host does."""

from typing import Any

import pytest

from cropline.config.settings import FetchSettings, load_settings
from cropline.core.errors import SettingsError
from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.fetch import Fetcher
from tests.unit.cropline.intake.sources.listing_server import Answer, Listing, listing

__all__ = ["listing"]


def fetch(listing: Listing, host: str | None = None, **changes: Any) -> bytes:
    settings = FetchSettings.model_validate(
        {"allow_loopback": True, "token_host": host or listing.url.removeprefix("http://"), **changes}
    ).options
    with Fetcher(settings) as fetcher:
        return fetcher.fetch(f"{listing.url}/p.jpg?size=1").data


@pytest.mark.parametrize(
    ("changes", "header", "value"),
    [
        ({"token": "k-1"}, "Authorization", "Bearer k-1"),
        ({"auth": {"kind": "bearer", "token": "k-1"}}, "Authorization", "Bearer k-1"),
        ({"token": "k-1", "auth": {"kind": "header", "header": "X-Api-Key"}}, "X-Api-Key", "k-1"),
        ({"token": "k-1", "auth": {"kind": "header", "prefix": "Token"}}, "Authorization", "Token k-1"),
        ({"auth": {"kind": "basic", "user": "user", "password": "pw"}}, "Authorization", "Basic dXNlcjpwdw=="),
    ],
)
def test_credentials_are_sent_in_a_header(listing: Listing, changes: dict[str, Any], header: str, value: str) -> None:
    listing.script = lambda query, headers: (200, {}, b"jpeg")
    assert fetch(listing, **changes) == b"jpeg"
    assert listing.requests[0][1].get(header) == value
    listing.requests.clear()
    assert fetch(listing, host="cdn.example", **changes) == b"jpeg"
    assert header not in listing.requests[0][1]


def test_credentials_are_sent_in_the_query(listing: Listing) -> None:
    listing.script = lambda query, headers: (200, {}, b"jpeg")
    fetch(listing, token="k 1&x", auth={"kind": "query", "param": "api_key"})
    assert listing.requests[0][0] == {"size": ["1"], "api_key": ["k 1&x"]}


def test_client_credentials_are_exchanged_once(listing: Listing) -> None:
    def script(query: dict[str, list[str]], headers: dict[str, str]) -> Answer:
        if listing.paths[-1] == "/token":
            return 200, {}, b'{"access_token": "t-1", "expires_in": 3600}'
        return (200, {}, b"jpeg") if headers.get("Authorization") == "Bearer t-1" else (401, {}, b"")

    listing.script = script
    listing.form_paths.add("/token")
    auth = {"kind": "oauth2", "client_id": "me", "client_secret": "s", "token_url": f"{listing.url}/token"}
    settings = FetchSettings.model_validate(
        {"allow_loopback": True, "token_host": listing.url.removeprefix("http://"), "auth": auth}
    ).options
    with Fetcher(settings) as fetcher:
        assert [fetcher.fetch(f"{listing.url}/{n}.jpg").data for n in range(2)] == [b"jpeg", b"jpeg"]
    assert listing.paths.count("/token") == 1


def test_a_token_that_is_not_given_fails_the_photo_without_a_secret(listing: Listing) -> None:
    listing.script = lambda query, headers: (500, {}, b"canary")
    listing.form_paths.add("/token")
    auth = {"kind": "oauth2", "client_id": "me", "client_secret": "canary-s", "token_url": f"{listing.url}/token"}
    with pytest.raises(PhotoFailure, match="AUTH__TOKEN_URL returned none") as caught:
        fetch(listing, auth=auth)
    assert "canary" not in f"{caught.value} {caught.value.__context__} {caught.value.__cause__}"
    assert caught.value.code == "connection"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"AUTH__KIND": "header", "TOKEN": "x"}, "CROPLINE_FETCH: token needs token_host"),
        ({"AUTH__KIND": "header", "TOKEN_HOST": "a.example"}, "CROPLINE_FETCH: auth kind header needs token"),
        ({"AUTH__KIND": "basic", "TOKEN_HOST": "a.example"}, "CROPLINE_FETCH__AUTH: kind basic needs user"),
    ],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], says: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"CROPLINE_FETCH__{name}", value)
    with pytest.raises(SettingsError, match=says):
        load_settings()

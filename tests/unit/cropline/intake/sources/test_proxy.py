"""The image API through a real proxy: pages, single images and tokens; the environment's proxy is not used."""

import json
import logging
from typing import Any

import pytest

from cropline.config.settings import ApiSettings
from cropline.core.errors import ApiUnavailable
from cropline.intake.image_api import pages
from cropline.intake.sources import rest_item
from tests.http_proxy import HttpProxy, proxying
from tests.unit.cropline.intake.sources.listing_server import Answer, Listing, listing, page

__all__ = ["listing"]

PASSWORD = "canary%407f3a"
SINCE = "2026-11-22T00:00:00+00:00"


def api(**changes: Any) -> ApiSettings:
    return ApiSettings(**({"url": "http://api.test", "retries": 0} | changes))


def as_robot(proxy: HttpProxy) -> str:
    return f"http://robot:{PASSWORD}@127.0.0.1:{proxy.port}"


def read(own: ApiSettings) -> list[Any]:
    return [item for items in pages(own, SINCE) for item in items]


def test_pages_images_and_tokens_go_through_the_proxy(listing: Listing) -> None:
    def script(query: dict[str, list[str]], headers: dict[str, str]) -> Answer:
        if listing.paths[-1] == "/token":
            return 200, {}, json.dumps({"access_token": "t", "expires_in": 3600}).encode()
        if listing.paths[-1] == "/v1/images/7":
            return 200, {}, b'{"id": 7}'
        return page([1])

    listing.script = script
    listing.form_paths.add("/token")
    auth = {"kind": "oauth2", "client_id": "me", "client_secret": "s", "token_url": "http://login.test/token"}
    there = int(listing.url.rpartition(":")[2])
    # The names do not resolve: only the proxy knows where they lead.
    with proxying({"api.test:80": there, "login.test:80": there}, user="robot:canary@7f3a") as proxy:
        own = api(proxy=as_robot(proxy), auth=auth)
        assert read(own) == [1]
        renewed = own.model_copy(update={"item_path": "/v1/images/{image_id}"})
        assert list(rest_item.items(renewed, ["7"])) == [("7", {"id": 7})]
    assert [line.split("?")[0] for line in proxy.asked] == [
        "POST http://login.test/token", "GET http://api.test/v1/images",
        "POST http://login.test/token", "GET http://api.test/v1/images/7",
    ]  # fmt: skip
    assert all("Proxy-Authorization" not in headers for _, headers in listing.requests)


def test_a_proxy_of_the_environment_is_not_used(listing: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    listing.script = lambda query, headers: page([1])
    with proxying() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert read(api(url=listing.url)) == [1]
    assert proxy.asked == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_fails_is_named_without_its_password(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with proxying(user="robot:other") as proxy:
        own = api(url=f"{scheme}://api.test", proxy=as_robot(proxy))
        with pytest.raises(ApiUnavailable) as wrong:
            read(own)
    with pytest.raises(ApiUnavailable) as absent:
        read(own)
    assert f"the proxy 127.0.0.1:{proxy.port} fails: check user and password in CROPLINE_API__PROXY" in str(wrong.value)
    assert f"cannot be reached; the proxy 127.0.0.1:{proxy.port} fails (ProxyError)" in str(absent.value)
    told = "".join(record.getMessage() for record in caplog.records) + repr(own)
    for error in (wrong.value, absent.value):
        told += repr(error) + repr(error.__cause__) + repr(error.__context__)
    assert "canary" not in told

"""Photos through a real proxy: the address rules hold, names are checked by TLS, the password stays secret."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from cropline.config.settings import FetchSettings
from cropline.core.crop_options import FetchOptions
from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.addresses import Resolver, system_resolver
from fugue_jobs.fetching.fetch import Fetcher
from tests.http_proxy import proxying
from tests.unit.fugue_jobs.fetching.fetch_servers import PHOTO, Names, certificates, head, ok, serving
from tests.unit.fugue_jobs.fetching.test_fetch_secrets import chain, everything, records

PUBLIC, OTHER = "93.184.216.34", "93.184.216.35"
PASSWORD = "canary7f3a"


def settings(proxy: str, **changes: object) -> FetchOptions:
    return FetchSettings.model_validate({"proxy": proxy, "timeout_s": 10, **changes}).options


def failure(url: str, own: FetchOptions, resolve: Resolver = system_resolver) -> PhotoFailure:
    with Fetcher(own, resolve=resolve) as fetcher, pytest.raises(PhotoFailure) as caught:
        fetcher.fetch(url)
    return caught.value


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(ok()) as server, proxying() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with Fetcher(FetchSettings(allow_loopback=True).options) as fetcher:
            assert fetcher.fetch(server.url()).data == PHOTO
    assert proxy.asked == []


def test_the_proxy_is_asked_for_the_checked_address_and_the_host_sees_its_name() -> None:
    names = Names({"camera.test": [[OTHER, PUBLIC]]})
    with serving(ok()) as server:
        routes = {f"{PUBLIC}:80": server.port, f"{OTHER}:80": 1}  # nothing listens at the first
        with (
            proxying(routes, user=f"robot:{PASSWORD}") as proxy,
            Fetcher(settings(proxy.url), resolve=names) as fetcher,
        ):
            assert fetcher.fetch("http://camera.test/a.jpg").data == PHOTO
            assert fetcher.fetch("http://camera.test/b.jpg").data == PHOTO
    assert proxy.asked == [f"CONNECT {OTHER}:80", f"CONNECT {PUBLIC}:80"], "the tunnel is kept for the second photo"
    assert [each.headers["host"] for each in server.exchanges] == ["camera.test"] * 2
    assert PASSWORD not in "".join(each.head for each in server.exchanges)
    assert "proxy-authorization" not in server.exchanges[0].headers


def test_tls_is_between_us_and_the_name_in_the_url(tmp_path: Path) -> None:
    authority, context = certificates(tmp_path, "camera.test")
    names = Names({"camera.test": [[PUBLIC]], "other.test": [[PUBLIC]]})
    with serving(ok(), tls=context) as server, proxying({f"{PUBLIC}:443": server.port}) as proxy:
        own = settings(proxy.url, ca_file=authority, token="t0ken", token_host="camera.test")
        with Fetcher(own, resolve=names) as fetcher:
            assert fetcher.fetch("https://camera.test/a.jpg").data == PHOTO
        assert failure("https://other.test/a.jpg", own, names).code == "tls"
        assert failure("https://camera.test/a.jpg", settings(proxy.url), names).code == "tls"
    assert server.exchanges[0].headers["authorization"] == "Bearer t0ken"
    assert "t0ken" not in "".join(proxy.heads)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://inside.test/", "https://cloud.test/", "http://[::1]/", "https://169.254.169.254/"],
)
def test_forbidden_addresses_are_not_asked_for(url: str) -> None:
    names = Names({"inside.test": [[PUBLIC, "10.0.0.7"]], "cloud.test": [["169.254.169.254"]]})
    with proxying() as proxy:
        assert failure(url, settings(proxy.url), names).code == "forbidden_address"
    assert proxy.asked == []


def test_redirects_go_through_the_proxy_by_the_same_rules() -> None:
    names = Names({"camera.test": [[PUBLIC]], "door.test": [[OTHER]], "inside.test": [["10.0.0.7"]]})
    moved = {
        "/a": head(302, "Location: http://door.test/photo", "Content-Length: 0"),
        "/b": head(302, "Location: http://inside.test/photo", "Content-Length: 0"),
        "/photo": ok(),
    }
    with serving(moved) as server, proxying({f"{PUBLIC}:80": server.port, f"{OTHER}:80": server.port}) as proxy:
        with Fetcher(settings(proxy.url), resolve=names) as fetcher:
            assert fetcher.fetch("http://camera.test/a").data == PHOTO
        assert failure("http://camera.test/b", settings(proxy.url), names).code == "forbidden_address"
    assert set(proxy.asked) == {f"CONNECT {PUBLIC}:80", f"CONNECT {OTHER}:80"}


def test_a_proxy_that_resolves_gets_names_of_listed_hosts_only(tmp_path: Path) -> None:
    authority, context = certificates(tmp_path, "camera.test")
    nobody = Names({})
    with serving(ok(), tls=context) as secure, serving(ok()) as plain:
        routes = {"camera.test:443": secure.port, "camera.test:80": plain.port}
        with proxying(routes, user=f"robot:{PASSWORD}") as proxy:
            own = settings(
                proxy.url,
                proxy_resolves=True,
                ca_file=authority,
                allowed_hosts=("camera.test", "10.0.0.7", "localhost", "a.localhost"),
            )
            with Fetcher(own, resolve=nobody) as fetcher:
                assert fetcher.fetch("https://camera.test/a.jpg").data == PHOTO
                assert fetcher.fetch("http://camera.test/a.jpg?key=1").data == PHOTO
            assert failure("https://other.test/", own, nobody).code == "forbidden_host"
            for host in ("10.0.0.7", "localhost", "a.localhost"):
                assert failure(f"https://{host}/", own, nobody).code == "forbidden_address"
                assert failure(f"http://{host}/", own, nobody).code == "forbidden_address"
            wrong = replace(own, proxy=settings(f"http://127.0.0.1:{proxy.port}").proxy)
            for scheme in ("http", "https"):
                refused = failure(f"{scheme}://camera.test/", wrong, nobody)
                assert (refused.code, "407: check user and password" in refused.detail) == ("connection", True)
    assert proxy.asked[:2] == ["CONNECT camera.test:443", "GET http://camera.test:80/a.jpg?key=1"]
    assert plain.exchanges[0].path == "/a.jpg?key=1"
    assert nobody.asked == []


BROKEN = {
    "refuses": (b"HTTP/1.1 403 No\r\n\r\n", "connection", "answered 403 to CONNECT"),
    "wants a user": (b"HTTP/1.1 407 Who\r\n\r\n", "connection", "CROPLINE_FETCH__PROXY"),
    "waited in vain": (b"HTTP/1.1 504 Slow\r\n\r\n", "timeout", "answered 504"),
    "no HTTP": (b"SSH-2.0 canary7f3a\r\n\r\n", "connection", "did not answer in HTTP"),
    "endless": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000, "connection", "did not answer in HTTP"),
}


@pytest.mark.parametrize(("answer", "code", "detail"), BROKEN.values(), ids=BROKEN.keys())
def test_a_proxy_that_does_not_work_is_named_without_its_password(
    answer: bytes, code: str, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with proxying(user=f"robot:{PASSWORD}", answer=answer) as proxy:
        refused = failure(f"https://{PUBLIC}/{PASSWORD}?key={PASSWORD}", settings(proxy.url))
    assert refused.code == code
    assert detail in refused.detail
    assert f"the proxy 127.0.0.1:{proxy.port}" in refused.detail
    told = everything(refused) + records(caplog) + repr(settings(proxy.url))
    assert PASSWORD not in told
    assert list(chain(refused)) == [refused]


def test_a_silent_or_absent_proxy_ends_in_time() -> None:
    with proxying() as proxy:
        pass
    absent = failure(f"http://{PUBLIC}/", settings(proxy.url))
    assert (absent.code, absent.detail) == (
        "connection", f"the proxy 127.0.0.1:{proxy.port}: no connection (ConnectionRefusedError)"
    )  # fmt: skip
    with serving(lambda exchange: exchange.drip(b"HTTP/1.1 200 Connected\r\n" * 9, every_s=0.1)) as slow:
        late = failure(f"http://{PUBLIC}/", settings(f"http://127.0.0.1:{slow.port}", connect_timeout_s=0.3))
    assert (late.code, "opened no connection in time" in late.detail) == ("timeout", True)

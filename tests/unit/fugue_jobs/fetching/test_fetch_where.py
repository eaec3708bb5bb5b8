"""Where a fetch may go: hosts, addresses, pins, redirects and token hosts, against real servers on loopback."""

import socket
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest

from cropline.config.settings import FetchSettings
from cropline.core.crop_options import FetchOptions
from cropline.core.errors import SettingsError
from cropline.core.failures import PhotoFailure
from fugue_jobs.fetching.addresses import Address
from fugue_jobs.fetching.fetch import Fetcher
from fugue_jobs.fetching.transport import DeadlineSocket, system_connect
from tests.unit.fugue_jobs.fetching.fetch_servers import PHOTO, Answer, Exchange, Names, certificates, head, ok, serving

TOKEN = "canary-token"


def demo(**changes: object) -> FetchOptions:
    return FetchSettings.model_validate({"allow_loopback": True, "timeout_s": 10, **changes}).options


def code(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(PhotoFailure) as caught:
        fetcher.fetch(url)
    return caught.value.code


def moved(to: str, status: int = 302) -> bytes:
    return head(status, f"Location: {to}", "Content-Length: 0")


class Dialled:
    """The real connect, which records its addresses."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    def __call__(self, address: Address, port: int, timeout_s: float) -> socket.socket:
        self.addresses.append(str(address))
        return system_connect(address, port, timeout_s)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "168.63.129.16", "100.100.100.200", "[fd00:ec2::254]",
     "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0.0.0.0", "[::]", "255.255.255.255"],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_special_addresses_are_refused_before_any_connection(scheme: str, host: str) -> None:
    dialled = Dialled()
    with Fetcher(FetchSettings().options, connect=dialled) as fetcher:
        assert code(fetcher, f"{scheme}://{host}/") == "forbidden_address"
    assert dialled.addresses == []


@pytest.mark.parametrize(
    "answers", [["10.0.0.1"], ["127.0.0.1", "169.254.169.254"], ["::ffff:127.0.0.1"], ["fd00:ec2::254"]]
)
def test_a_name_that_leads_to_a_special_address_is_refused_even_where_loopback_is_allowed(answers: list[str]) -> None:
    dialled = Dialled()
    with Fetcher(demo(), resolve=Names({"camera.test": [answers]}), connect=dialled) as fetcher:
        assert code(fetcher, "http://camera.test/") == "forbidden_address"
    assert dialled.addresses == []


def test_localhost_is_refused_by_what_it_resolves_to() -> None:
    with serving(ok()) as server, Fetcher(FetchSettings().options) as fetcher:
        assert code(fetcher, server.url(host="localhost")) == "forbidden_address"
    assert server.connections == 0


def test_a_name_that_changes_after_the_check_does_not_move_the_connection() -> None:
    names = Names({"camera.test": [["127.0.0.1"], ["::1"], ["169.254.169.254"]]})
    with (
        serving(ok()) as checked,
        serving(ok(b"other"), host="127.0.0.3", port=checked.port) as other,
    ):
        with Fetcher(demo(), resolve=names) as fetcher:
            assert fetcher.fetch(checked.url(host="camera.test")).data == PHOTO
            assert fetcher.fetch(checked.url(host="camera.test")).data == PHOTO
        assert (checked.connections, other.connections, names.asked) == (1, 0, ["camera.test"])


def test_each_new_connection_is_checked_again() -> None:
    def once(exchange: Exchange) -> None:
        exchange.hang_up(head(200, f"Content-Length: {len(PHOTO)}", "Connection: close") + PHOTO)

    names = Names({"camera.test": [["127.0.0.1"], ["10.0.0.1"]]})
    with serving(once) as server, Fetcher(demo(), resolve=names) as fetcher:
        fetcher.fetch(server.url(host="camera.test"))
        assert code(fetcher, server.url(host="camera.test")) == "forbidden_address"


def test_a_connection_that_leads_elsewhere_than_checked_is_dropped_unused() -> None:
    def elsewhere(address: Address, port: int, timeout_s: float) -> socket.socket:
        return system_connect(ip_address("127.0.0.1"), port, timeout_s)

    with (
        serving(ok()) as server,
        Fetcher(demo(), resolve=Names({"camera.test": [["::1"]]}), connect=elsewhere) as fetcher,
    ):
        assert code(fetcher, server.url(host="camera.test")) == "forbidden_address"
    assert server.exchanges == []


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    names = Names({"camera.test": [["::1", "127.0.0.1"]]})
    with serving(ok()) as server, Fetcher(demo(), resolve=names) as fetcher:
        assert fetcher.fetch(server.url(host="camera.test")).data == PHOTO


def test_unresolved_names_are_connection_failures() -> None:
    with Fetcher(demo(), resolve=Names({"empty.test": [[]]})) as fetcher:
        assert code(fetcher, "http://unknown.test/") == "connection"
        assert code(fetcher, "http://empty.test/") == "connection"


def test_ipv6_hosts_are_fetched() -> None:
    with serving(ok(), host="::1") as server, Fetcher(demo()) as fetcher:
        assert fetcher.fetch(server.url()).data == PHOTO
    assert server.exchanges[0].headers["host"] == f"[::1]:{server.port}"


def test_only_listed_hosts_are_asked() -> None:
    with serving(ok()) as server:
        with Fetcher(demo(allowed_hosts=("camera.test", f"127.0.0.1:{server.port}"))) as fetcher:
            assert fetcher.fetch(server.url()).data == PHOTO
        with Fetcher(demo(allowed_hosts=("camera.test", f"127.0.0.1:{server.port + 1}"))) as fetcher:
            assert code(fetcher, server.url()) == "forbidden_host"
    assert len(server.exchanges) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["/photo", "photo", "?x=1", "//127.0.0.1:{port}/photo", "http://127.0.0.1:{port}/photo"])
def test_redirects_are_followed_by_hand(status: int, to: str) -> None:
    def answer(exchange: Exchange) -> None:
        first = len(server.exchanges) == 1
        exchange.send(moved(to.format(port=server.port), status) if first else ok())

    with serving(answer) as server, Fetcher(demo()) as fetcher:
        assert fetcher.fetch(server.url("/start")).data == PHOTO
    assert len(server.exchanges) == 2


def test_a_location_outside_ascii_is_sent_as_utf8() -> None:
    answers: dict[str, Answer] = {"/a": moved("/é".encode().decode("latin-1")), "/%C3%A9": ok()}
    with serving(answers) as server, Fetcher(demo()) as fetcher:
        assert fetcher.fetch(server.url("/a")).data == PHOTO


REDIRECTS = {
    "http://169.254.169.254/latest/meta-data/": "forbidden_address",
    "http://10.0.0.1/": "forbidden_address",
    "http://[::ffff:169.254.169.254]/": "forbidden_address",
    "//metadata.test/": "forbidden_address",
    "http://other.test/": "forbidden_host",
    "http://2130706433/": "bad_redirect",
    "http://user:pw@127.0.0.1/": "bad_redirect",
    "http://127.0.0.1\\@other.test/": "bad_redirect",
    "file:///etc/passwd": "bad_redirect",
    "ftp://127.0.0.1/": "bad_redirect",
    "javascript:alert(1)": "bad_redirect",
    "http://[::1": "bad_redirect",
    "/a b": "bad_redirect",
    "/a\tb": "bad_redirect",
    "ht\ttp://other.test/": "bad_redirect",
    "/photo\r\n //other.test/": "bad_redirect",
    "/\\other.test/": "bad_redirect",
    "/\x00": "bad_redirect",
    "http://127.0.0.1:0/": "bad_redirect",
    "http://[fe80::1%25lo]/": "bad_redirect",
    "http://b\xc3\xbccher.test/": "bad_redirect",
    "data:image/png;base64,iVBORw0KGgo=": "bad_redirect",
    "/\xff": "bad_redirect",
    "": "bad_redirect",
}


@pytest.mark.parametrize(("to", "wanted"), REDIRECTS.items())
def test_every_redirect_is_judged_like_a_first_url(to: str, wanted: str) -> None:
    dialled = Dialled()
    names = Names({"metadata.test": [["169.254.169.254"]], "other.test": [["127.0.0.1"]]})
    listed = ("127.0.0.1", "169.254.169.254", "10.0.0.1", "[::ffff:a9fe:a9fe]", "metadata.test")
    with serving(moved(to)) as server, Fetcher(demo(allowed_hosts=listed), resolve=names, connect=dialled) as fetcher:
        assert code(fetcher, server.url()) == wanted
    assert dialled.addresses == ["127.0.0.1"]
    assert len(server.exchanges) == 1


@pytest.mark.parametrize(("limit", "steps", "arrives"), [(3, 3, True), (3, 4, False), (0, 0, True), (0, 1, False)])
def test_redirects_are_counted(limit: int, steps: int, arrives: bool) -> None:
    answers: dict[str, Answer] = {f"/{n}": moved(f"/{n - 1}") for n in range(1, 9)} | {"/0": ok()}
    with serving(answers) as server, Fetcher(demo(max_redirects=limit)) as fetcher:
        if arrives:
            assert fetcher.fetch(server.url(f"/{steps}")).data == PHOTO
        else:
            assert code(fetcher, server.url(f"/{steps}")) == "bad_redirect"
    assert len(server.exchanges) == min(steps, limit) + 1


def test_a_redirect_loop_ends() -> None:
    with serving(lambda exchange: exchange.send(moved(exchange.path))) as server, Fetcher(demo()) as fetcher:
        assert code(fetcher, server.url()) == "bad_redirect"
    assert len(server.exchanges) == 4


def test_the_token_goes_to_its_own_host_only() -> None:
    with serving(ok()) as own, serving(ok(), host="::1") as other:
        with Fetcher(demo(token=TOKEN, token_host=f"127.0.0.1:{own.port}")) as fetcher:
            fetcher.fetch(own.url())
            fetcher.fetch(other.url())
        with Fetcher(demo()) as fetcher:
            fetcher.fetch(own.url())
    assert [exchange.headers.get("authorization") for exchange in own.exchanges] == [f"Bearer {TOKEN}", None]
    assert [exchange.headers.get("authorization") for exchange in other.exchanges] == [None]


def test_the_token_stays_behind_when_a_redirect_leaves_and_does_not_come_back() -> None:
    with (
        serving(lambda exchange: exchange.send(there())) as own,
        serving(lambda exchange: exchange.send(back())) as other,
    ):

        def there() -> bytes:
            return moved(other.url("/x")) if len(own.exchanges) == 1 else ok()

        def back() -> bytes:
            return moved(own.url("/y"))

        with Fetcher(demo(token=TOKEN, token_host=f"127.0.0.1:{own.port}")) as fetcher:
            assert fetcher.fetch(own.url()).data == PHOTO
    sent = [exchange.headers.get("authorization") for exchange in (*own.exchanges, *other.exchanges)]
    assert sent == [f"Bearer {TOKEN}", None, None]


def test_the_token_is_kept_on_a_redirect_within_its_origin() -> None:
    answers: dict[str, Answer] = {"/a": moved("/b"), "/b": ok()}
    with serving(answers) as own, Fetcher(demo(token=TOKEN, token_host=f"127.0.0.1:{own.port}")) as fetcher:
        fetcher.fetch(own.url("/a"))
    assert [exchange.headers["authorization"] for exchange in own.exchanges] == [f"Bearer {TOKEN}"] * 2


def test_the_token_is_sent_unencrypted_only_to_this_machine() -> None:
    names = Names({"camera.test": [["127.0.0.1"]]})
    with serving(ok()) as server:
        settings = demo(token=TOKEN, token_host=f"camera.test:{server.port}")
        with Fetcher(settings, resolve=names) as fetcher:
            fetcher.fetch(server.url(host="camera.test"))
    assert "authorization" not in server.exchanges[0].headers


def test_https_is_verified_by_name_while_the_address_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = certificates(tmp_path, "camera.test", "127.0.0.1")
    names = Names({"camera.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]})
    with serving(ok(), tls=context) as server:
        with Fetcher(demo(), resolve=names) as fetcher:
            assert code(fetcher, server.url(host="camera.test")) == "tls"  # an untrusted authority
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        with Fetcher(demo(token=TOKEN, token_host=f"camera.test:{server.port}"), resolve=names) as fetcher:
            assert fetcher.fetch(server.url(host="camera.test")).data == PHOTO
            assert fetcher.fetch(server.url(host="camera.test")).data == PHOTO
            assert fetcher.fetch(server.url()).data == PHOTO
            assert code(fetcher, server.url(host="other.test")) == "tls"
    assert [exchange.headers.get("authorization") for exchange in server.exchanges] == [f"Bearer {TOKEN}"] * 2 + [None]
    assert server.exchanges[0].connection == server.exchanges[1].connection


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_default_port_is_not_named_to_the_host(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Signatures cover the Host header: "camera.test:443" would not be what was signed.
    authority, context = certificates(tmp_path, "camera.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    names = Names({"camera.test": [["127.0.0.1"]]})
    with serving(ok(), tls=context if scheme == "https" else None) as server:

        def at_its_port(address: Address, port: int, timeout_s: float) -> socket.socket:
            assert port == {"http": 80, "https": 443}[scheme]
            return system_connect(address, server.port, timeout_s)

        with Fetcher(demo(), resolve=names, connect=at_its_port) as fetcher:
            fetcher.fetch(f"{scheme}://camera.test/a?sig=1")
    assert server.exchanges[0].headers["host"] == "camera.test"


def test_certificates_that_are_too_old_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = certificates(tmp_path, "127.0.0.1", days=-1)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with serving(ok(), tls=context) as server, Fetcher(demo()) as fetcher:
        assert code(fetcher, server.url()) == "tls"
    assert server.exchanges == []


def test_an_aborted_handshake_is_a_tls_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, Fetcher(demo()) as fetcher:
        threading.Thread(target=lambda: _close_after_hello(listener.accept()[0]), daemon=True).start()
        assert code(fetcher, f"https://127.0.0.1:{listener.getsockname()[1]}/") == "tls"


def _close_after_hello(sock: socket.socket) -> None:
    with sock:
        sock.recv(65536)


def test_https_does_not_redirect_down_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = certificates(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with serving(ok()) as plain, serving(moved(plain.url()), tls=context) as secure, Fetcher(demo()) as fetcher:
        assert code(fetcher, secure.url()) == "bad_redirect"
    assert plain.connections == 0


def test_a_tls_body_without_close_notify_is_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = certificates(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    # The server closes the TCP connection without TLS's close_notify, in a body that only the end delimits.
    with (
        serving(lambda exchange: exchange.hang_up(head(200) + PHOTO), tls=context) as server,
        Fetcher(demo()) as fetcher,
    ):
        assert code(fetcher, server.url()) == "truncated"


class Elsewhere(DeadlineSocket):
    """A real connection to loopback that reports another peer, as if the network redirected it."""

    peer: tuple[str, int]

    def getpeername(self) -> tuple[str, int]:
        return self.peer


def to_loopback(address: Address, port: int, timeout_s: float) -> socket.socket:
    sock = Elsewhere(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    sock.connect(("127.0.0.1", port))
    sock.peer = (str(address), port)
    return sock


def test_listed_hosts_may_resolve_into_opened_private_networks_only() -> None:
    names = Names({
        "door.test": [["10.20.0.7"]], "office.test": [["10.21.0.7"]], "cloud.test": [["169.254.169.254"]],
        "mixed.test": [["10.20.0.7", "10.21.0.7"]], "stranger.test": [["10.20.0.7"]],
    })  # fmt: skip
    listed = ("door.test", "office.test", "cloud.test", "mixed.test")
    settings = FetchSettings(private_networks=("10.20.0.0/16",), allowed_hosts=listed, timeout_s=10).options
    with serving({"/photo.jpg": ok(), "/away": moved("http://stranger.test/")}) as server:
        with Fetcher(settings, resolve=names, connect=to_loopback) as fetcher:
            assert fetcher.fetch(server.url(host="door.test")).data == PHOTO
            assert code(fetcher, server.url("/away", host="door.test")) == "forbidden_host"
            assert code(fetcher, server.url(host="stranger.test")) == "forbidden_host"
            for host in ("office.test", "cloud.test", "mixed.test"):
                assert code(fetcher, server.url(host=host)) == "forbidden_address"
        assert server.paths == ["/photo.jpg", "/away"]
        closed = FetchSettings(allowed_hosts=listed).options
        with Fetcher(closed, resolve=names, connect=to_loopback) as fetcher:
            assert code(fetcher, server.url(host="door.test")) == "forbidden_address"


def test_a_ca_file_is_trusted_beside_the_systems(tmp_path: Path) -> None:
    authority, context = certificates(tmp_path, "127.0.0.1")
    with serving(ok(), tls=context) as server:
        with Fetcher(demo()) as fetcher:
            assert code(fetcher, server.url()) == "tls"
        with Fetcher(demo(ca_file=authority)) as fetcher:
            assert fetcher.fetch(server.url()).data == PHOTO
    settings = demo(ca_file=authority)
    authority.unlink()
    with pytest.raises(SettingsError, match="CROPLINE_FETCH__CA_FILE: there is no file .*every machine that crops"):
        Fetcher(settings)

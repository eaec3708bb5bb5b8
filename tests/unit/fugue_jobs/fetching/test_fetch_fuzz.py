"""URLs and redirects made of dangerous pieces: no forbidden connection, no outcome but a photo or a known code."""

import socket
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cropline.config.settings import FetchSettings
from cropline.core.failures import FAILURES, PhotoFailure
from fugue_jobs.fetching.addresses import Address
from fugue_jobs.fetching.fetch import Fetcher, Photo
from fugue_jobs.fetching.transport import system_connect
from tests.unit.fugue_jobs.fetching.fetch_servers import Exchange, Server, head, ok, serving

ADDRESSES = [
    "127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "168.63.129.16", "100.100.100.200", "224.0.0.1", "0.0.0.0", "8.8.8.8",
    "::", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "fd00:ec2::254", "fe80::1", "2001::1",
    "2606:4700:4700::1111",
]  # fmt: skip
SPELLINGS = [
    "2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.1.", "１２７.0.0.1", "127。0。0。1", "127%2e0.0.1",
    "localhost", "localhost.", "LOCALHOST", "lo\u200bcalhost", "user@127.0.0.1", "8.8.8.8\\@127.0.0.1", "127.0.0.1\\@8.8.8.8",
    "8.8.8.8#@127.0.0.1", "127.0.0.1#@8.8.8.8", "8.8.8.8?@127.0.0.1", "8.8.8.8 127.0.0.1", "8.8.8.8\t", "[::1", "[::1%25lo]",
    "[::ffff:7f00:1]", "a..b", "-a", "x" * 64, "a_b.test", "one.test", "two.test",
    "xn--a.test", "xn--.test", "xn--0000000000.test", "XN--BCHER-KVA.test", "127.0.0.1.one.test",
]  # fmt: skip
hosts = st.sampled_from(SPELLINGS) | st.sampled_from(ADDRESSES).map(lambda text: f"[{text}]" if ":" in text else text)
schemes = st.sampled_from(
    ["http://", "https://", "HTTP://", "//", "http:/", "http:\\\\", "http:", "ftp://", "file://", ""]
)
ports = st.sampled_from(["", "", ":{port}", ":{port}", ":80", ":0", ":99999", ":", ":8o", ":{port}@8.8.8.8"])
paths = st.sampled_from(
    ["", "/", "/a", "/../..", "//10.0.0.1/", "/%2e%2e", "?a=b", "#x", "/\x00", "/é", "/\ud800"]
) | st.text(max_size=8)
urls = st.builds("{}{}{}{}".format, schemes, hosts, ports, paths) | st.text(max_size=30)
answers = st.lists(st.sampled_from(ADDRESSES) | st.just("nonsense"), max_size=3)


def is_special(address: Address) -> bool:
    """Return whether it must never be dialled, by Python's own flags and by unwrapping, not by our tables."""
    inner = None
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or address.teredo or int(address) >> 32 in (0, 0x64FF9B << 64)
    loopback = str(address) in ("127.0.0.1", "::1")
    known = str(address) == "168.63.129.16"
    return not loopback and bool(inner or known or not address.is_global or address.is_multicast)


class Network:
    """Connects to the test's own server; every other address refuses. Records all dialled addresses."""

    def __init__(self, server: Server) -> None:
        self.server, self.dialled = server, list[Address]()

    def __call__(self, address: Address, port: int, timeout_s: float) -> socket.socket:
        self.dialled.append(address)
        if (str(address), port) != ("127.0.0.1", self.server.port):
            raise ConnectionRefusedError
        return system_connect(address, port, timeout_s)


def outcome(network: Network, url: str, resolved: Sequence[str]) -> str:
    fetch_settings = FetchSettings(allow_loopback=True, timeout_s=5).options
    with Fetcher(fetch_settings, resolve=lambda host, port: resolved, connect=network) as fetcher:
        try:
            return "photo" if isinstance(fetcher.fetch(url), Photo) else "?"
        except PhotoFailure as failure:
            return failure.code


# The budget is fixed and the examples are the same in every run.
@settings(max_examples=200, deadline=None, derandomize=True)
@given(url=urls, resolved=answers)
@example(url="http://127.0.0.1:{port}/", resolved=[])
@example(url="http://one.test:{port}/", resolved=["127.0.0.1"])
@example(url="http://one.test:{port}/", resolved=["127.0.0.1", "10.0.0.1"])
def test_no_url_leads_to_a_forbidden_address_or_an_unknown_outcome(url: str, resolved: list[str]) -> None:
    with serving(ok()) as server:
        network = Network(server)
        result = outcome(network, url.replace("{port}", str(server.port)), resolved)
    assert result == "photo" or result in FAILURES
    assert not [address for address in network.dialled if is_special(address)]
    assert len(server.exchanges) == (result == "photo")


headers = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=20)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(location=urls | headers, resolved=answers, status=st.sampled_from([301, 302, 303, 307, 308]))
@example(location="/a", resolved=[], status=302)
@example(location="http://two.test:{port}/", resolved=["127.0.0.1", "fd00:ec2::254"], status=302)
def test_no_redirect_leads_to_a_forbidden_address_or_an_unknown_outcome(
    location: str, resolved: list[str], status: int
) -> None:
    def answer(exchange: Exchange) -> None:
        to = location.replace("{port}", str(server.port)).encode("utf-8", "surrogatepass").decode("latin-1")
        exchange.send(head(status, f"Location: {to}", "Content-Length: 0") if len(server.exchanges) == 1 else ok())

    with serving(answer) as server:
        network = Network(server)
        result = outcome(network, server.url("/start"), resolved)
    assert result == "photo" or result in FAILURES
    assert not [address for address in network.dialled if is_special(address)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    answer=st.binary(max_size=60)
    | st.builds(
        lambda status, rest: b"HTTP/1.1 %d x\r\n%b" % (status, rest), st.integers(0, 999), st.binary(max_size=40)
    )
)
def test_no_bytes_of_a_host_lead_to_an_unknown_outcome(answer: bytes) -> None:
    with serving(lambda exchange: exchange.hang_up(answer)) as server:
        result = outcome(Network(server), server.url(), [])
    assert result == "photo" or result in FAILURES


def test_the_oracle_separates_public_from_special_addresses() -> None:
    special = [text for text in ADDRESSES if is_special(ip_address(text))]
    assert special == [
        text for text in ADDRESSES if text not in ("127.0.0.1", "::1", "8.8.8.8", "2606:4700:4700::1111")
    ]

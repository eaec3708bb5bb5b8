"""Which URLs are accepted, which hosts are listed, which addresses are dialled: tables, and properties by ipaddress."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cropline.core.failures import PhotoFailure
from cropline.core.hosts import read_host, read_private_network
from fugue_jobs.fetching.addresses import Opened, checked_addresses, forbidden, is_listed, is_origin, read_url

LOOPBACK = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1"]
FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1",
    "100.64.0.1", "100.127.255.255", "100.100.100.200", "169.254.0.1", "169.254.169.254", "169.254.170.2",
    "168.63.129.16", "192.0.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.170", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "232.1.2.3",
    "240.0.0.1", "255.255.255.254", "255.255.255.255",
    "::", "fe80::1", "fe80::1%eth0", "fe80::1%1", "febf::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254",
    "ff02::1", "ff0e::1", "100::1", "2001:db8::1", "3fff::1", "2001:2::1", "2001:10::1", "2001:20::1", "4000::1", "::5",
    # IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8", "::127.0.0.1", "::10.0.0.1",
    "::169.254.169.254", "::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:a9fe:a9fe",
    "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::10.0.0.1", "64:ff9b::168.63.129.16",
    "64:ff9b::224.0.0.1", "64:ff9b:1::1", "64:ff9b:1::8.8.8.8", "64:ff9b:1:abcd::a9fe:a9fe",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:0:7f00:1::1",
    "2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1", "2606:4700::5efe:a9fe:a9fe",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.1", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
    "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2606:4700:4700::1111", "2a00:1450:4001::200e", "2001:4860:4860::8888", "64:ff9b::8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
@pytest.mark.parametrize("allow_loopback", [False, True])
def test_special_addresses_are_never_dialled(address: str, allow_loopback: bool) -> None:
    assert forbidden(ip_address(address), Opened(loopback=allow_loopback))


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_is_dialled_only_when_allowed(address: str) -> None:
    assert forbidden(ip_address(address), Opened()) == "loopback"
    assert forbidden(ip_address(address), Opened(loopback=True)) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_dialled(address: str) -> None:
    assert forbidden(ip_address(address), Opened()) is None


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.ip_addresses(v=4))
def test_no_ipv4_address_that_python_calls_special_is_dialled(address: IPv4Address) -> None:
    special = not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local
    assert not special or forbidden(address, Opened())


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.ip_addresses(v=6))
def test_no_ipv6_address_that_python_calls_special_is_dialled(address: IPv6Address) -> None:
    wraps = address.ipv4_mapped or address.sixtofour or address.teredo
    special = not address.is_global or address.is_multicast or address.is_reserved or address.is_site_local or wraps
    # NAT64 is in a block that Python calls reserved; the test after the next covers it.
    special = special and address not in IPv6Network("64:ff9b::/96")
    assert not special or forbidden(address, Opened())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from(["::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b:1::", "2606:4700::5efe:0:0"]), st.ip_addresses(v=4)
)
def test_no_wrapping_lets_any_ipv4_address_through(prefix: str, inner: IPv4Address) -> None:
    assert forbidden(IPv6Address(int(IPv6Address(prefix)) | int(inner)), Opened(loopback=True)) or (
        prefix,
        int(inner),
    ) == ("::", 1)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.ip_addresses(v=4))
def test_nat64_is_judged_by_what_it_wraps(inner: IPv4Address) -> None:
    wrapped = IPv6Address(int(IPv6Address("64:ff9b::")) | int(inner))
    assert bool(forbidden(wrapped, Opened(loopback=True))) == bool(forbidden(inner, Opened()))


@pytest.mark.parametrize(
    ("answers", "passes"),
    [
        (["8.8.8.8"], True),
        (["8.8.8.8", "2606:4700:4700::1111"], True),
        (["8.8.8.8", "10.0.0.1"], False),
        (["10.0.0.1", "8.8.8.8"], False),
        (["8.8.8.8", "::1"], False),
        (["8.8.8.8", "fe80::1%eth0"], False),
        (["8.8.8.8", "not an address"], False),
        ([f"8.8.8.{n}" for n in range(32)], True),
        ([f"8.8.8.{n}" for n in range(33)], False),
    ],
)
def test_one_bad_answer_spoils_a_name(answers: list[str], passes: bool) -> None:
    if passes:
        assert [str(address) for address in checked_addresses(answers, Opened())] == answers
    else:
        with pytest.raises(PhotoFailure) as caught:
            checked_addresses(answers, Opened())
        assert caught.value.code == "forbidden_address"


def test_answers_that_repeat_are_dialled_once() -> None:
    assert checked_addresses(["8.8.8.8", "8.8.8.8"], Opened()) == [ip_address("8.8.8.8")]


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://camera.example", "camera.example", 80, "/"),
        ("HTTPS://Camera.Example/A.jpg", "camera.example", 443, "/A.jpg"),
        ("http://camera.example:8080/a?b=c&d=%2F#part", "camera.example", 8080, "/a?b=c&d=%2F"),
        ("https://camera.example?sig=a/b?c", "camera.example", 443, "/?sig=a/b?c"),
        ("http://camera.example/a/../b//c/./d", "camera.example", 80, "/a/../b//c/./d"),
        ("http://camera.example//evil.example/x", "camera.example", 80, "//evil.example/x"),
        ("http://camera.example/@x:1/y", "camera.example", 80, "/@x:1/y"),
        ("http://xn--bcher-kva.example/", "xn--bcher-kva.example", 80, "/"),
        ("http://my_bucket.s3.example/", "my_bucket.s3.example", 80, "/"),
        ("http://8.8.8.8/", "8.8.8.8", 80, "/"),
        ("http://[2606:4700:4700:0::1111]:81/", "2606:4700:4700::1111", 81, "/"),
        ("http://[::FFFF:127.0.0.1]/", "::ffff:7f00:1", 80, "/"),
        ("http://camera.example/фото.jpg", "camera.example", 80, "/фото.jpg"),
        ("http://localhost/", "localhost", 80, "/"),
        ("http://0x7f.example/", "0x7f.example", 80, "/"),
    ],
)
def test_plain_urls_are_read(url: str, host: str, port: int, path: str) -> None:
    target = read_url(url)
    assert (target.host, target.port, target.path) == (host, port, path)


REFUSED_URLS = [
    # schemes and shapes
    "", "camera.example/a", "//camera.example/a", "http:/camera.example/", "http:camera.example", "http://", "http:///a",
    "http://?a", "ftp://camera.example/", "file:///etc/passwd", "gopher://camera.example/", "data:image/png;base64,AA",
    "javascript:alert(1)", "https+unix://x/", "view-source:http://camera.example/", "http://camera.example:http://x/",
    # user names, backslashes, blanks and controls
    "http://user@camera.example/", "http://user:pw@camera.example/", "http://@camera.example/", "http://a@b@camera.example/",
    "http://127.0.0.1:80\\@camera.example/", "http://camera.example\\@127.0.0.1/", "http:\\\\camera.example/",
    "http://camera.example/a\\b", " http://camera.example/", "http://camera.example/ ", "http://camera.example/a b",
    "http://camera.example/\r\nX: y", "http://camera.example/\ta", "ht\ntp://camera.example/", "http://camera\x00.example/",
    "http://camera.example/\x7f", "http://camera.example/\x85", "http://camera.example/\u2028", "http://camera.example/\u3000",
    "http://camera.example/\ud800", "http://camera.example\u200b/",
    # unusual spellings of hosts
    "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://127.1/", "http://127.0.1/", "http://0177.0.0.1/",
    "http://127.0.0.01/", "http://017700000001/", "http://0x7f.0x0.0x0.0x1/", "http://127.0.0.1./", "http://127.0.0.256/",
    "http://1.2.3.4.5/", "http://0/", "http://0x/", "http://0.0.0.0x0/", "http://camera.example./", "http://localhost./",
    "http://camera..example/", "http://.camera.example/", "http://./", "http://-camera.example/", "http://camera-.example/",
    "http://127%2e0%2e0%2e1/", "http://%31%32%37.0.0.1/", "http://camera%00.example/", "http://camera.example%2f@x/",
    "http://１２７.０.０.１/", "http://ⓛocalhost/", "http://127。0。0。1/", "http://bücher.example/", "http://ℂamera.example/",
    f"http://{'a' * 64}.example/", f"http://{'a.' * 127}example/", "http://camera,example/", "http://camera*.example/",
    "http://[::1/", "http://::1/", "http://[]/", "http://[1.2.3.4]/", "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/",
    "http://[::1]x/", "http://[v1.a]/", "http://[:::1]/", "http://[::1].example/",
    # ports
    "http://camera.example:/", "http://camera.example:0/", "http://camera.example:65536/", "http://camera.example:-1/",
    "http://camera.example:8o/", "http://camera.example:٨٠/", "http://camera.example:80:80/", "http://camera.example:080000/",
    "http://camera.example/" + "a" * 8192,
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED_URLS, ids=ascii)
def test_urls_that_can_be_misread_are_refused(url: str) -> None:
    with pytest.raises(PhotoFailure) as caught:
        read_url(url)
    assert caught.value.code == "bad_url"
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("allowed", "url", "listed"),
    [
        ((), "http://camera.example/", True),
        (("camera.example",), "http://camera.example/", True),
        (("camera.example",), "https://CAMERA.example:9000/", True),
        ((" Camera.Example ",), "http://camera.example/", True),
        (("camera.example:9000",), "http://camera.example:9000/", True),
        (("camera.example:9000",), "http://camera.example/", False),
        (("camera.example:443",), "https://camera.example/", True),
        (("camera.example",), "http://a.camera.example/", False),
        (("camera.example",), "http://camera.example.evil.example/", False),
        (("camera.example",), "http://evilcamera.example/", False),
        (("*.camera.example",), "http://a.camera.example/", False),
        (("other.example", "127.0.0.1"), "http://127.0.0.1:1/", True),
        (("[::1]",), "http://[0:0::1]:5/", True),
        (("[::1]:5",), "http://[::1]:5/", True),
        (("::1",), "http://[::1]/", False),
        (("",), "http://camera.example/", False),
    ],
)
def test_only_listed_hosts_pass(allowed: tuple[str, ...], url: str, listed: bool) -> None:
    assert is_listed(read_url(url), allowed) is listed


@pytest.mark.parametrize(
    ("url", "host_and_port", "same"),
    [
        ("https://camera.example/", "camera.example", True),
        ("https://camera.example/", "camera.example:443", True),
        ("http://camera.example/", "camera.example", True),
        ("https://camera.example:8443/", "camera.example", False),
        ("https://camera.example:8443/", "camera.example:8443", True),
        ("https://camera.example/", "", False),
        ("https://a.camera.example/", "camera.example", False),
        ("http://[::1]/", "[::1]", True),
    ],
)
def test_a_token_host_is_one_exact_origin(url: str, host_and_port: str, same: bool) -> None:
    assert is_origin(read_url(url), host_and_port) is same


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://a@b.example/", "user name"),
        ("http://a\\b/", "backslash"),
        ("ftp://a/", "http"),
        ("http://127.1/", "spelling"),
        ("http://a:0/", "port"),
        ("http://[::g]/", "IPv6"),
        ("http://-a/", "DNS"),
        ("http://é/", "xn--"),
        ("http://a/" + "b" * 9000, "longer"),
    ],
)
def test_a_refusal_names_the_rule(url: str, rule: str) -> None:
    with pytest.raises(PhotoFailure) as caught:
        read_url(url)
    assert rule in caught.value.detail


def test_a_target_shows_no_path_and_no_query() -> None:
    target = read_url("https://camera.example/secret/path?sig=secret")
    assert "secret" not in repr(target)
    assert "secret" not in target.origin


EVERYTHING = Opened(
    loopback=True,
    networks=tuple(
        read_private_network(network)
        for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
    ),
)


@pytest.mark.parametrize("address", [*FORBIDDEN, "fd00:c1::a9fe:a9fe"])
def test_private_networks_open_nothing_but_themselves(address: str) -> None:
    own = ip_address(address)
    private = any(own in network for network in EVERYTHING.networks)
    metadata = address in ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe")
    assert (forbidden(own, EVERYTHING) is None) == (private and not metadata)


def test_a_private_network_opens_its_own_addresses_only() -> None:
    opened = Opened(networks=(read_private_network("10.20.0.0/16"), read_private_network("fd12:3456::/32")))
    for address in ("10.20.0.1", "10.20.255.255", "fd12:3456::1", "8.8.8.8"):
        assert forbidden(ip_address(address), opened) is None
    for address in ("10.21.0.1", "192.168.0.1", "127.0.0.1", "fd12:3457::1", "::ffff:10.20.0.1", "64:ff9b::a14:1"):
        assert forbidden(ip_address(address), opened)


@pytest.mark.parametrize(
    ("entry", "read"),
    [
        ("Camera.Example", "camera.example"),
        (" camera.example:8443 ", "camera.example:8443"),
        ("camera_1", "camera_1"),
        ("10.1.2.3:080", "10.1.2.3:80"),
        ("[FD00:0::1]:443", "[fd00::1]:443"),
    ],
)
def test_an_entry_is_brought_into_the_spelling_it_is_compared_in(entry: str, read: str) -> None:
    assert read_host(entry) == read
    assert is_listed(read_url(f"http://{entry.strip()}/"), [read])


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.example", "https://camera.example", "camera.example/photos", "user@camera.example", "a b", "bücher.example",
     "camera..example", "-a.example", "camera.example.", "127.1", "0x7f.1", "10.0.0.256", "fd00::1", "[fd00::1", "[nope]",
     "camera.example:", "camera.example:0", "camera.example:65536", "camera.example:https", "a" * 300, "10.0.0.0/8"],
)  # fmt: skip
def test_an_entry_that_no_url_can_match_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"must be|within|not an IPv6"):
        read_host(entry)


@pytest.mark.parametrize(
    "entry",
    ["", "10.0.0.1/8", "10.0.0.0/7", "0.0.0.0/0", "127.0.0.0/8", "169.254.0.0/16", "169.254.169.254", "8.8.8.0/24",
     "168.63.129.16/32", "::/0", "::1/128", "fe80::/10", "::ffff:10.0.0.0/104", "camera.example"],
)  # fmt: skip
def test_what_is_no_private_network_cannot_be_opened(entry: str) -> None:
    with pytest.raises(ValueError, match=r"must (be|lie)"):
        read_private_network(entry)

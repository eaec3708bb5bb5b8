"""Fetches one photo's bytes from one URL, or raises one reason: hosts, redirects and limits on connections.

Every request ends within ``timeout_s`` and ``max_bytes`` with a Photo or a PhotoFailure. A failure quotes
nothing of a URL but its scheme, host and port.
"""

import socket
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

import urllib3

from cropline.core.crop_options import CONNECTIONS_PER_WORKER, FetchOptions
from cropline.core.errors import SettingsError
from cropline.core.failures import PhotoFailure
from cropline.core.hosts import check_authorities, read_private_network
from cropline.core.request_logs import hush_targets
from cropline.core.signed_urls import is_signed
from cropline.core.store_spec import StoreSpec
from fugue_jobs.fetching.addresses import Opened, Resolver, Target, is_listed, read_location, read_url, system_resolver
from fugue_jobs.fetching.answers import WIRE_ERRORS, Body, Photo, checked, drain, read_body, refusal, wire_failure
from fugue_jobs.fetching.photo_auth import PhotoAuth
from fugue_jobs.fetching.proxies import ProxyDialler, refused
from fugue_jobs.fetching.stored_photos import StoredPhotos, is_stored
from fugue_jobs.fetching.transport import Connect, Dialler, PinnedPools, Request, StaleConnection, system_connect

__all__ = ["Fetcher", "Photo"]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Bytes that a response may have besides its body; chunk framing may add a quarter of the body.
FRAMING = 1_000_000
# Hosts whose last photo is remembered.
REMEMBERED_HOSTS = 256
# A host that was found to refuse everything is not asked again for so long.
REFUSES_S = 30


class Fetcher:
    """Downloads photos. One per worker process, shared by its threads, never pickled.

    Connections are kept and reused per host, at most ``connections_per_host`` at a time. Each is pinned to an
    address that was checked when it was opened. Raise SettingsError for a missing or invalid ca_file.
    """

    def __init__(
        self,
        options: FetchOptions,
        store: StoreSpec | None = None,
        *,
        resolve: Resolver = system_resolver,
        connect: Connect = system_connect,
    ) -> None:
        hush_targets()
        self._options = options
        self._auth = PhotoAuth(options)
        self._stored = StoredPhotos(options, store)
        self._connections = options.connections_per_host or CONNECTIONS_PER_WORKER
        self._slots = _Slots(self._connections)
        self._hosts = _Hosts()
        networks = tuple(map(read_private_network, options.private_networks))
        if options.ca_file is not None:
            _check_here(options.ca_file)
        direct = Dialler(resolve, connect, Opened(options.allow_loopback, networks))
        proxy = options.proxy
        self._relay = proxy if options.proxy_resolves else None
        self._pools = PinnedPools(
            ProxyDialler(proxy, options.proxy_resolves, direct) if proxy else direct,
            connections_per_host=self._connections,
            most_received=options.max_bytes * 5 // 4 + FRAMING,
            ca_file=options.ca_file,
            relay=self._relay,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        self._pools.close()

    def fetch(self, url: str, *, expected_bytes: int | None = None, expected_sha256: str | None = None) -> Photo:
        """Return the photo at ``url``, checked against the manifest's declared size and hash, if any.

        Raise PhotoFailure, whose detail, message and context hold no path, query, token or body. The time limit
        starts when the limit on the host's connections lets the request through.
        """
        if is_stored(url):
            return checked(self._stored.read(url), expected_bytes, expected_sha256)
        try:
            data = self._follow(read_url(url))
        except PhotoFailure as refused:
            failure = refused
        except WIRE_ERRORS as error:
            failure = wire_failure(error, in_body=False)
        else:
            return checked(data, expected_bytes, expected_sha256)
        # Raised out here: inside the handler it would carry the handled exception, with its URL.
        raise failure

    def _follow(self, target: Target) -> Body:
        started: float | None = None
        first, crossed = target, False
        for _ in range(self._options.max_redirects + 1):
            if not is_listed(target, self._options.allowed_hosts):
                raise PhotoFailure("forbidden_host", f"{target.origin} is not listed")
            with self._slots.held(target.origin, None if started is None else self._end(started)):
                started = started or monotonic()
                signed = is_signed(first.url) or is_signed(target.url)
                answer = self._ask(target, self._end(started), with_token=not crossed, signed=signed)
            if isinstance(answer, Body):
                return answer
            target = _redirected(target, answer)
            crossed = crossed or target.origin != first.origin
        raise PhotoFailure("bad_redirect", f"more than {self._options.max_redirects} redirects")

    def _end(self, started: float) -> float:
        return started + self._options.timeout_s

    def _ask(self, target: Target, end: float, *, with_token: bool, signed: bool) -> Body | str:
        """Send one request. Return a body, or the target of a redirect."""
        with _released(self._send(target, end, with_token=with_token)) as response:
            if response.status == 200:
                body = read_body(response, self._options.max_bytes)
                self._hosts.served(target, with_token)
                return body
            refusing = None if response.status in REDIRECTS else refusal(target, response, signed=signed)
            if response.status == 407 and self._relay:
                refusing = refused(self._relay, 407)
            drain(response)
        if refusing is None:
            return response.headers.get("Location", "")
        if response.status == 403 and not signed and self._refuses_all(target.origin, end):
            detail = f"{target.origin} answered 403, also to a photo that it served before"
            raise PhotoFailure("http_429", detail)
        raise refusing

    def _refuses_all(self, origin: str, end: float) -> bool:
        """Return whether a host that served photos now refuses them too, as hosts do that ban busy clients.

        One more request tells a ban from a photo that is refused by itself. A host that never answered is not asked.
        """
        known = self._hosts.last(origin)
        if known is None or self._hosts.refuses(origin):
            return known is not None
        target, with_token = known
        try:
            with _released(self._send(target, end, with_token=with_token, head_only=True)) as response:
                refuses = response.status >= 400
        except (PhotoFailure, *WIRE_ERRORS):
            refuses = True
        if refuses:
            self._hosts.refused(origin)
        return refuses

    def _send(
        self, target: Target, end: float, *, with_token: bool, head_only: bool = False
    ) -> urllib3.BaseHTTPResponse:
        headers = {"User-Agent": "cropline", "Accept": "*/*", "Accept-Encoding": "identity"}
        request = Request(target, target.path, headers)
        if head_only:
            request.headers["Range"] = "bytes=0-0"  # not HEAD, which some hosts refuse
        if with_token:
            self._auth.sign(request)
        # Once per kept connection, which the host may have closed, and once on a new one.
        for attempts_left in range(self._connections, -1, -1):
            left = end - monotonic()
            if left <= 0:
                raise PhotoFailure("timeout", f"{target.origin} took longer than {self._options.timeout_s:g} s")
            timeout = urllib3.Timeout(total=left, connect=self._options.connect_timeout_s, read=left)
            try:
                return self._pools.send(request, timeout)
            except StaleConnection:
                if not attempts_left:
                    break
        raise PhotoFailure("connection", f"{target.origin} closed the connection before it answered")


def _check_here(ca_file: Path) -> None:
    """Check the file again: the settings may have been checked on another machine."""
    try:
        check_authorities(ca_file)
    except ValueError as error:
        where = f"{socket.gethostname()}; every machine that crops needs it at this place"
        raise SettingsError(f"CROPLINE_FETCH__CA_FILE: {error} on {where}") from None


@contextmanager
def _released(response: urllib3.BaseHTTPResponse) -> Iterator[urllib3.BaseHTTPResponse]:
    """Close a connection whose response is not read to its end; keep the others for the next request."""
    try:
        yield response
    finally:
        if response.connection is not None:
            response.close()
        response.release_conn()


class _Hosts:
    """What each host served last, and since when it refuses that too."""

    def __init__(self) -> None:
        self._served: OrderedDict[str, tuple[Target, bool]] = OrderedDict()
        self._refused: dict[str, float] = {}
        self._lock = threading.Lock()

    def served(self, target: Target, with_token: bool) -> None:
        with self._lock:
            self._served[target.origin] = (target, with_token)
            self._served.move_to_end(target.origin)
            self._refused.pop(target.origin, None)
            if len(self._served) > REMEMBERED_HOSTS:
                gone, _ = self._served.popitem(last=False)
                self._refused.pop(gone, None)

    def last(self, origin: str) -> tuple[Target, bool] | None:
        with self._lock:
            return self._served.get(origin)

    def refused(self, origin: str) -> None:
        with self._lock:
            self._refused[origin] = monotonic()

    def refuses(self, origin: str) -> bool:
        with self._lock:
            return monotonic() - self._refused.get(origin, -REFUSES_S) < REFUSES_S


class _Slots:
    """Counts requests per host. A request waits while there are ``cap``. Hosts without requests are dropped."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._held: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def held(self, origin: str, end: float | None) -> Iterator[None]:
        with self._changed:
            left = None if end is None else max(end - monotonic(), 0)
            if not self._changed.wait_for(lambda: self._held[origin] < self._cap, left):
                raise PhotoFailure("timeout", f"{origin} is busy with our other requests")
            self._held[origin] += 1
        try:
            yield
        finally:
            with self._changed:
                self._held[origin] -= 1
                if not self._held[origin]:
                    del self._held[origin]
                self._changed.notify_all()


def _redirected(target: Target, location: str) -> Target:
    try:
        # http.client reads headers as Latin-1; non-ASCII in them can only be UTF-8.
        to = read_location(location.encode("latin-1").decode(), target)
    except (PhotoFailure, ValueError):
        to = None
    if to is None or not location:
        raise PhotoFailure("bad_redirect", f"{target.origin} redirects to something else than an http(s) URL")
    if target.scheme == "https" and to.scheme != "https":
        raise PhotoFailure("bad_redirect", f"{target.origin} redirects from https to http")
    return to

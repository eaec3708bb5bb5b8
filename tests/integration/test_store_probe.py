"""A store without the guarantees that the product needs is refused in one line, before anything depends on it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
import pytest

from automations.deploy import _prove_storage
from cropline.catalogue import Catalogue
from cropline.config.settings import Settings
from cropline.core import storage, store_probe
from cropline.core.errors import StorageError
from cropline.core.store_spec import StoreSpec
from tests.emulators.s3 import s3_server
from tests.unit.cropline.catalogue.test_catalogue import crops

Fault = Callable[["Proxy"], bool]


class Proxy(BaseHTTPRequestHandler):
    """An S3 endpoint in front of a good one, with a fault. The fault returns whether it answered the request."""

    protocol_version = "HTTP/1.1"
    fault: Fault
    behind: str
    seen: list[str]

    def go(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.fault():
            return
        connection = HTTPConnection(self.behind)
        connection.request(self.command, self.path, self.body, dict(self.headers))
        response = connection.getresponse()
        data = response.read()
        told = [(name, value) for name, value in response.getheaders() if name.lower() not in _OWN]
        size = response.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.answer(response.status, data, [*told, ("Content-Length", size)])
        connection.close()

    def answer(self, status: int, data: bytes = b"", headers: list[tuple[str, str]] | None = None) -> bool:
        self.send_response(status)
        for name, value in headers or [("Content-Length", str(len(data)))]:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        return True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = go  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Suppress the log."""


_OWN = ("content-length", "transfer-encoding", "connection", "server", "date")


def ignores_conditions(self: Proxy) -> bool:
    del self.headers["If-None-Match"]
    return False


def knows_no_conditions(self: Proxy) -> bool:
    answer = b"<Error><Code>NotImplemented</Code><Message>CANARY</Message></Error>"
    return "If-None-Match" in self.headers and self.answer(501, answer)


def refuses_and_overwrites(self: Proxy) -> bool:
    """The second PUT gets a refusal, as it must, but is executed anyway."""
    if "If-None-Match" not in self.headers:
        return False
    del self.headers["If-None-Match"]
    if self.path not in self.seen:
        self.seen.append(self.path)
        return False
    connection = HTTPConnection(self.behind)
    connection.request("PUT", self.path, self.body, dict(self.headers))
    connection.getresponse().read()
    connection.close()
    return self.answer(412)


def ignores_ranges(self: Proxy) -> bool:
    del self.headers["Range"]
    return False


def loses_metadata(self: Proxy) -> bool:
    for name in list(self.headers):
        if name.lower().startswith("x-amz-meta-"):
            del self.headers[name]
    return False


def lists_from_the_beginning(self: Proxy) -> bool:
    path, _, query = self.path.partition("?")
    kept = [part for part in query.split("&") if not part.startswith("start-after=")]
    self.path = f"{path}?{'&'.join(kept)}" if query else path
    return False


def lists_nothing(self: Proxy) -> bool:
    empty = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    return "list-type=2" in self.path and self.answer(200, empty)


def refuses_deletes(self: Proxy) -> bool:
    answer = b"<Error><Code>AccessDenied</Code></Error>"
    return (self.command == "DELETE" or self.path.endswith("?delete")) and self.answer(403, answer)


def once(self: Proxy, key: str) -> bool:
    """Return whether this is the first create-if-absent of a key of this name."""
    first = "If-None-Match" in self.headers and self.path.partition("?")[0].endswith(key) and key not in self.seen
    self.seen += [key] * first
    return first


def loses_a_reply(self: Proxy, key: str) -> bool:
    """The request is executed, but the client never learns it."""
    if not once(self, key):
        return False
    connection = HTTPConnection(self.behind)
    connection.request(self.command, self.path, self.body, dict(self.headers))
    connection.getresponse().read()
    connection.close()
    self.close_connection = True
    return True


def loses_the_reply_of_a_create(self: Proxy) -> bool:
    return loses_a_reply(self, "/a")


def loses_the_reply_of_the_winner(self: Proxy) -> bool:
    return loses_a_reply(self, "/race")


def is_away_for_a_moment(self: Proxy) -> bool:
    """The client itself repeats a request once."""
    if "If-None-Match" not in self.headers or len(self.seen) >= 2:
        return False
    self.seen.append(self.path)
    return self.answer(503, b"<Error><Code>SlowDown</Code></Error>")


def is_away(self: Proxy) -> bool:
    answer = b"<Error><Code>SlowDown</Code></Error>"
    return "If-None-Match" in self.headers and self.answer(503, answer)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url.removeprefix("http://")


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_probe, "_WAIT_S", 0)


@pytest.fixture
def behind(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Fault], StoreSpec]]:
    """Return a function that makes a storage in a new bucket, behind an endpoint with a fault."""
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    servers = []

    def begin(fault: Fault) -> StoreSpec:
        bucket = f"probed-{uuid4().hex[:8]}"
        boto3.client("s3", endpoint_url=f"http://{s3}").create_bucket(Bucket=bucket)
        handler = type("Handler", (Proxy,), {"fault": fault, "behind": s3, "seen": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return StoreSpec(f"s3://{bucket}/below", f"http://127.0.0.1:{server.server_port}", "us-east-1")

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def _left(spec: StoreSpec, s3: str) -> list[str]:
    client = boto3.client("s3", endpoint_url=f"http://{s3}")
    found = client.list_objects_v2(Bucket=urlsplit(spec.url).netloc).get("Contents", ())
    return [entry["Key"] for entry in found]


@pytest.mark.parametrize(
    ("fault", "missing", "says"),
    [
        (
            ignores_conditions,
            "create-if-absent (a PUT with If-None-Match)",
            "the store accepted a second PUT over the first",
        ),
        (knows_no_conditions, "create-if-absent (a PUT with If-None-Match)", "the store answers NotImplemented"),
        (refuses_and_overwrites, "create-if-absent (a PUT with If-None-Match)", "but kept its bytes"),
        (ignores_ranges, "reading a range", "the store answers"),
        (loses_metadata, "metadata of objects", "probe of an object were lost"),
        (lists_from_the_beginning, "listing after a key (start-after)", "instead of only c"),
        (lists_nothing, "listing after a write", "a list shows nothing instead of b and c"),
        (refuses_deletes, "delete", "the store answers AccessDenied"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_store_that_breaks_a_promise_is_refused_by_its_name(
    behind: Callable[[Fault], StoreSpec], s3: str, fault: Fault, missing: str, says: str
) -> None:
    spec = behind(fault)
    with pytest.raises(StorageError) as caught:
        store_probe.require(spec)
    said = str(caught.value)
    assert said.startswith(f"{spec.url} at {spec.endpoint} cannot be used, {missing} is missing: ")
    assert says in said
    assert "\n" not in said
    assert "CANARY" not in said
    assert not [key for key in _left(spec, s3) if key.endswith("probe.json")]
    if fault is not refuses_deletes:
        assert _left(spec, s3) == []


@pytest.mark.parametrize("fault", [ignores_conditions, knows_no_conditions], ids=lambda fault: fault.__name__)
def test_a_deploy_and_the_first_batch_refuse_such_a_store_too(
    behind: Callable[[Fault], StoreSpec], fault: Fault
) -> None:
    spec = behind(fault)
    settings = Settings(storage={"url": spec.url, "endpoint": spec.endpoint, "region": spec.region})
    with pytest.raises(StorageError, match="create-if-absent"):
        _prove_storage(settings)
    with pytest.raises(StorageError, match="create-if-absent"):
        Catalogue(spec).append(crops(["a"]), batch_id="b", attempt=1, flow_run="f", committed_at=datetime.now(UTC))


def test_an_unreachable_store_is_not_reported_as_lacking_a_guarantee(behind: Callable[[Fault], StoreSpec]) -> None:
    spec = behind(is_away)
    with pytest.raises(StorageError, match=f"^cannot check {spec.url}: SlowDown$"):
        store_probe.probe(spec)


@pytest.mark.parametrize(
    "fault",
    [loses_the_reply_of_a_create, loses_the_reply_of_the_winner, is_away_for_a_moment],
    ids=lambda fault: fault.__name__,
)
def test_a_sound_store_passes_though_a_reply_is_lost_or_it_is_overloaded_for_a_moment(
    behind: Callable[[Fault], StoreSpec], s3: str, fault: Fault
) -> None:
    spec = behind(fault)
    store_probe.require(spec)
    assert _left(spec, s3) == ["below/.cropline/probe.json"]


def test_a_good_store_is_probed_once_and_the_probe_leaves_no_object(
    behind: Callable[[Fault], StoreSpec], s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = behind(lambda _: False)
    store_probe.require(spec)
    assert _left(spec, s3) == ["below/.cropline/probe.json"]
    record = json.loads(storage.read(spec, store_probe.RECORD))
    assert record["endpoint"] == spec.endpoint
    assert set(record["versions"]) == {"cropline", "obstore", "deltalake"}

    monkeypatch.setattr(store_probe, "_proven", set())  # as in another process
    monkeypatch.setattr(store_probe, "probe", lambda _: pytest.fail("it was probed again"))
    store_probe.require(spec)


@pytest.mark.parametrize(
    "record", [b"", b"null", b"[]", b"{", b'{"checks": 0}', b'{"checks": 1, "endpoint": "http://x"}']
)
def test_a_record_of_another_store_or_none_at_all_is_no_proof(tmp_path: Path, record: bytes) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    storage.write(spec, store_probe.RECORD, record)
    store_probe.require(spec)
    assert json.loads(storage.read(spec, store_probe.RECORD))["endpoint"] is None
    assert [path.name for path in (tmp_path / ".cropline").iterdir()] == ["probe.json"]

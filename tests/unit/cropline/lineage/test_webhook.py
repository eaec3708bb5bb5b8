"""cropline's own events and their receivers: signed, at least once, bounded, and nothing in them that should not leave."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from cropline.catalogue import CATALOGUE
from cropline.config.events import EventSettings
from cropline.lineage.delivery import Delivery
from cropline.lineage.own_events import batch_committed, images_erased, is_own
from cropline.lineage.receivers import Receivers
from cropline.lineage.webhook import SIGNATURE

AT = datetime(2026, 11, 22, 8, 40, tzinfo=UTC)
SECRET = "a secret of the test"
PAGE = Path(__file__).parents[4] / "docs" / "reference" / "events.md"


class _Receiver(HTTPServer):
    def __init__(self) -> None:
        self.got: list[tuple[str, str, bytes]] = []
        self.status, self.wait = 204, threading.Event()
        self.wait.set()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, _Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.got.append((self.path, self.headers[SIGNATURE], body))
        server.wait.wait(5)
        self.send_response(server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[_Receiver]:
    with _Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.wait.set()
        server.shutdown()
        thread.join()


def _settings(receiver: _Receiver, **more: Any) -> EventSettings:
    url = f"http://127.0.0.1:{receiver.server_port}/hook?token=t"
    return EventSettings.model_validate({"url": url, "secret": SECRET} | more)


def _receivers(settings: EventSettings) -> Receivers:
    return Receivers(settings, lambda _event: Delivery(False, "there is no Prefect server"))


def _committed() -> dict[str, Any]:
    row = {"source": "cams", "profile": "default", "label": "face", "captured_at": AT}
    rows = pa.Table.from_pylist([row, row | {"captured_at": None, "profile": "a"}], schema=CATALOGUE)
    return batch_committed("cams", "b1", rows, {"images": 1, "written": 2}, "s3://bucket/catalogue", 7, AT)


def test_a_committed_batch_tells_counts_version_and_range_and_nothing_of_the_pictures() -> None:
    event = _committed()
    event.pop("cropline"), event.pop("id")
    assert event == {
        "type": "cropline.batch.committed", "version": 1, "time": "2026-11-22T08:40:00.000000Z", "source": "cams",
        "batch_id": "b1", "profiles": ["a", "default"], "counts": {"images": 1, "written": 2},
        "catalogue": "s3://bucket/catalogue", "catalogue_version": 7,
        "captured_from": "2026-11-22T08:40:00.000000Z", "captured_until": "2026-11-22T08:40:00.000000Z",
    }  # fmt: skip
    assert is_own(_committed())
    assert _committed()["id"] == _committed()["id"]


def test_an_erasure_tells_every_id_once_in_bounded_events() -> None:
    ids = [f"i{number}" for number in range(2_500)]
    events = list(images_erased("cams", "e1", ids, 9, AT))
    assert [len(event["image_ids"]) for event in events] == [1_000, 1_000, 500]
    assert [image for event in events for image in event["image_ids"]] == ids
    assert len({event["id"] for event in events}) == 3
    assert {(event["part"], event["parts"]) for event in events} == {(1, 3), (2, 3), (3, 3)}


def test_each_event_arrives_signed_as_the_docs_check_it(receiver: _Receiver) -> None:
    events = [_committed(), *images_erased("cams", "e1", ["a"], 9, AT)]
    assert _receivers(_settings(receiver)).publish(events).published == 2
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    scope: dict[str, Any] = {}
    exec(code, scope)
    for event, (path, header, body) in zip(events, receiver.got, strict=True):
        assert (path, json.loads(body)) == ("/hook?token=t", event)
        assert scope["is_ours"](SECRET, header, body, time.time())
        assert not scope["is_ours"](SECRET, header, body + b" ", time.time())
        assert not scope["is_ours"]("another secret...", header, body, time.time())
        assert not scope["is_ours"](SECRET, header, body, time.time() + 400)


def test_a_receiver_that_fails_or_hangs_leaves_the_events_and_costs_little(receiver: _Receiver) -> None:
    receiver.status = 503
    told = _receivers(_settings(receiver)).publish([_committed()])
    assert (told.published, told.reason) == (0, "the webhook answered 503")
    receiver.wait.clear()
    webhook = _receivers(_settings(receiver, timeout_s=0.2))
    began = time.monotonic()
    assert webhook.publish([_committed()]).reason == "the webhook did not answer in time"
    assert webhook.publish([_committed()]).published == 0
    assert time.monotonic() - began < 3


def test_without_a_receiver_events_of_earlier_settings_are_done() -> None:
    assert _receivers(EventSettings.model_validate({})).publish([_committed()]).complete


def test_ids_of_any_length_make_events_that_kafka_takes() -> None:
    ids = [f"{number:04d}" + "\N{SNOWMAN}" * 1_000 for number in range(300)]
    events = list(images_erased("cams", "e1", ids, 9, AT))
    assert max(len(json.dumps(event)) for event in events) < 500_000
    assert [image for event in events for image in event["image_ids"]] == ids
    assert {event["parts"] for event in events} == {len(events)}


def test_a_receiver_that_has_an_event_does_not_get_it_again_when_another_failed(receiver: _Receiver) -> None:
    emitted: list[str] = []

    def emit(event: Mapping[str, Any]) -> Delivery:
        emitted.append(event["id"])
        return Delivery(True)

    receiver.status = 500
    first = Receivers(_settings(receiver, prefect=True), emit).publish([_committed()])
    assert (first.published, first.reason) == (0, "webhook: the webhook answered 500")
    receiver.status = 204
    arrived = [told.arrived for told in first.deliveries]
    assert Receivers(_settings(receiver, prefect=True), emit).publish([_committed()], arrived).complete
    assert (len(receiver.got), emitted) == (2, [_committed()["id"]])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"url": "http://h/x"}, "url needs secret"),
        ({"url": "http://h/x", "secret": "short"}, "of at least 16"),
        ({"url": "ftp://h/x", "secret": SECRET}, "url is not http"),
        ({"kafka": {"acks": "all"}}, "bootstrap.servers"),
        ({"url": "http://user:pw@h/x", "secret": SECRET}, "url is not http"),
    ],
)
def test_wrong_settings_are_named_without_their_values(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        EventSettings.model_validate(given)
    assert "pw" not in caught.value.errors()[0]["msg"]

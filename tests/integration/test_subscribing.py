"""Who subscribes is told of every batch and every erasure: signed, again after a failure, under one id, whatever is killed."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.integration.conftest import Workspace, prefect_events
from tests.integration.killing import AT

SECRET = "a secret of this test"


class Subscriber:
    """A real HTTP receiver. It keeps what it accepted, and checks each signature by itself."""

    def __init__(self) -> None:
        self.status, self.refused = 204, 0
        self.events: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                at, made = (part[part.index("=") + 1 :] for part in self.headers["X-Cropline-Signature"].split(","))
                wanted = hmac.new(SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
                status = outer.status if made == wanted and abs(time.time() - int(at)) < 60 else 403
                if status == 204:
                    outer.events.append(json.loads(body))
                else:
                    outer.refused += 1
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/crops"


@pytest.fixture
def subscriber(disturbed: Workspace) -> Iterator[Subscriber]:
    receiver = Subscriber()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    disturbed.set(EVENTS__URL=receiver.url, EVENTS__SECRET=SECRET)
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


def test_a_batch_and_an_erasure_are_told_after_a_failure_of_the_receiver(
    disturbed: Workspace, subscriber: Subscriber
) -> None:
    disturbed.set(EVENTS__PREFECT="true")
    since = datetime.now(UTC)
    subscriber.status = 500
    disturbed.poll()
    assert (subscriber.refused, subscriber.events) == (1, [])
    subscriber.status = 204
    assert disturbed.poll().nothing_new
    (event,) = subscriber.events
    rows = disturbed.rows()
    assert {row["batch_id"] for row in rows} == {event["batch_id"]}
    assert event["type"] == "cropline.batch.committed"
    assert event["counts"]["written"] == sum(row["status"] == "written" for row in rows) > 0
    assert event["counts"]["images"] == len({row["image_id"] for row in rows})
    captured = sorted(row["captured_at"] for row in rows)
    assert datetime.fromisoformat(event["captured_from"]) == captured[0]
    assert datetime.fromisoformat(event["captured_until"]) == captured[-1]

    erased = rows[0]["image_id"]
    told = disturbed.run(
        f"from flows.forget import forget; from cropline.erasure.selection import Selection\n"
        f"forget(Selection(images=({erased!r},)), dry_run=False)"
    )
    assert told.returncode == 0, told.stderr[-2000:]
    (_, erasure) = subscriber.events
    assert (erasure["type"], erasure["image_ids"]) == ("cropline.images.erased", [erased])

    # Prefect has each once, though the batch's event was sent twice to the webhook.
    for mine in (event, erasure):
        (seen,) = [one for one in prefect_events(mine["type"], since) if str(one.id) == mine["id"]]
        assert seen.resource.id == "cropline.source.cams"
        assert seen.payload == mine


def test_a_batch_has_one_event_whatever_is_killed(disturbed: Workspace, subscriber: Subscriber) -> None:
    # The catalogue has the batch and the state does not; then the receiver has the event and the outbox does not know.
    for function, event in (("Catalogue.append", "return"), ("Receivers.publish", "return")):
        killed = disturbed.run(AT.format(function=function, event=event, signal="SIGKILL"))
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert disturbed.poll().nothing_new
    batches = {row["batch_id"] for row in disturbed.rows()}
    assert [one["batch_id"] for one in subscriber.events] == [*batches] * 2
    assert len({one["id"] for one in subscriber.events}) == 1

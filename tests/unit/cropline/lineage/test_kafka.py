"""Events to Kafka over the real protocol. The broker is librdkafka's mock cluster, in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from pydantic import SecretStr, ValidationError

from cropline.config.events import EventSettings
from cropline.config.lineage import LineageSettings
from cropline.core.store_spec import StoreSpec
from cropline.lineage import Delivery, Event, Publisher, PublishResult
from cropline.lineage.own_events import images_erased
from cropline.lineage.receivers import Receivers

EVENTS: list[Event] = [
    {"eventType": kind, "run": {"runId": f"run-{n}"}} for n in range(3) for kind in ("START", "FAIL")
]


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """Yield the host:port of a broker that lives as long as its producer."""
    owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (found,) = owner.list_topics(timeout=10).brokers.values()
    yield f"{found.host}:{found.port}"
    del owner


def send(servers: str, topic: str = "lineage", **config: str) -> PublishResult:
    kafka = {name: SecretStr(value) for name, value in {"bootstrap.servers": servers, **config}.items()}
    settings = LineageSettings(
        transport="kafka", kafka=kafka, topic=topic, timeout_s=1 if servers.endswith(":1") else 20
    )
    return Publisher(settings, StoreSpec("memory:///")).publish(EVENTS)


def _arrived(broker: str, topic: str, count: int) -> list[tuple[str, Event]]:
    """Return (key, event) of each message; it waits for ``count``, and a moment for more."""
    reader = Consumer({"bootstrap.servers": broker, "group.id": topic, "auto.offset.reset": "earliest", "log_level": 0})
    reader.subscribe([topic])
    got: list[tuple[str, Event]] = []
    until = time.monotonic() + 30
    while len(got) < count and time.monotonic() < until:
        message = reader.poll(1)
        if message is not None and message.error() is None:
            got.append(((message.key() or b"").decode(), json.loads(message.value() or b"")))
    assert reader.poll(0.2) is None
    reader.close()
    return got


def test_every_event_arrives_once_and_those_of_a_run_in_their_order(broker: str) -> None:
    assert send(broker, "once").complete
    got = _arrived(broker, "once", len(EVENTS))
    assert sorted(got, key=lambda one: one[0]) == [(event["run"]["runId"], event) for event in EVENTS]


def test_an_absent_broker_gives_a_reason_in_time() -> None:
    result = send("127.0.0.1:1")
    assert (result.published, result.reason) == (0, "Kafka did not answer in time")


def test_settings_that_are_refused_are_not_shown(broker: str) -> None:
    result = send(broker, **{"sasl.mechanism": "CANARY-7f3a", "acks": "CANARY-7f3a"})
    assert (result.published, result.reason) == (0, "the settings for Kafka are refused (_INVALID_ARG)")


def test_kafka_needs_a_broker() -> None:
    with pytest.raises(ValidationError, match="bootstrap.servers"):
        LineageSettings(transport="kafka")


def test_its_password_shows_nowhere(tmp_path: Path) -> None:
    kafka = {"bootstrap.servers": SecretStr("h:1"), "sasl.password": SecretStr("CANARY-7f3a")}
    assert "CANARY" not in repr(LineageSettings(transport="kafka", kafka=kafka))


def test_own_events_arrive_by_source_in_their_order(broker: str) -> None:
    events = list(images_erased("cams", "e1", [f"i{number}" for number in range(2_500)], 9, datetime.now(UTC)))
    settings = EventSettings.model_validate({"kafka": {"bootstrap.servers": broker}, "topic": "own", "timeout_s": 20})
    assert Receivers(settings, lambda _event: Delivery(False)).publish(events).complete
    assert _arrived(broker, "own", 3) == [("cams", event) for event in events]
    assert broker not in repr(settings)

"""Events to Kafka over the real protocol. The broker is librdkafka's mock cluster, in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from pydantic import SecretStr, ValidationError

from cropline.config.lineage import LineageSettings
from cropline.core.store_spec import StoreSpec
from cropline.lineage import Event, Publisher, PublishResult

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


def test_every_event_arrives_once_and_those_of_a_run_in_their_order(broker: str) -> None:
    assert send(broker, "once").complete
    reader = Consumer(
        {"bootstrap.servers": broker, "group.id": "test", "auto.offset.reset": "earliest", "log_level": 0}
    )
    reader.subscribe(["once"])
    got: list[tuple[str, Event]] = []
    until = time.monotonic() + 30
    while len(got) < len(EVENTS) and time.monotonic() < until:
        message = reader.poll(1)
        if message is not None and message.error() is None:
            got.append(((message.key() or b"").decode(), json.loads(message.value() or b"")))
    assert reader.poll(0.2) is None
    reader.close()
    assert sorted(got, key=lambda one: one[0]) == [(event["run"]["runId"], event) for event in EVENTS]


def test_nobody_listening_is_a_reason_and_ends_in_time() -> None:
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

"""Sends events to a Kafka topic, and waits for the broker's answer to each, within a time limit.

The library is the extra cropline[kafka]. It is imported inside a call, because few people need it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cropline.core.scrub import one_line
from cropline.lineage.delivery import NOT_REACHED, Delivery

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

_LATE = Delivery(False, "Kafka did not answer in time")
# A message that waited too long, by the library's clock or by ours.
_GIVEN_UP = ("_MSG_TIMED_OUT", "_PURGE_QUEUE", "_PURGE_INFLIGHT")


def produce(
    config: Mapping[str, str], topic: str, events: Sequence[Mapping[str, Any]], deadline: float
) -> list[Delivery]:
    """Send the events and wait until the brokers have them. Events with one key stay in order.

    The key is the run's id, or the source of an event of our own.

    ``config``: librdkafka's names. Errors of brokers are in the deliveries; none is raised.
    """
    from confluent_kafka import KafkaException

    left = deadline - time.monotonic()
    if left <= 0:
        return [Delivery(False, NOT_REACHED, tried=False)] * len(events)
    try:
        producer = _producer(config, left)
    except (KafkaException, ValueError, TypeError) as error:
        # The library's message quotes the value of the wrong setting, which may be a password.
        return [Delivery(False, f"the settings for Kafka are refused ({_code(error)})")] * len(events)
    deliveries: dict[int, Delivery] = {}
    for number, event in enumerate(events):
        _put(producer, topic, event, number, deliveries)
    producer.flush(max(0.0, deadline - time.monotonic()))
    producer.purge()
    producer.flush(0.1)
    return [deliveries.get(number, _LATE) for number in range(len(events))]


def _producer(config: Mapping[str, str], left_s: float) -> Producer:
    from confluent_kafka import Producer

    ours = {
        "enable.idempotence": "true",
        "linger.ms": "0",
        "message.timeout.ms": str(max(1, int(left_s * 1000))),
        # librdkafka would log to standard error. The errors that matter are returned with each message.
        "log_level": "0",
        "error_cb": _unheard,
    }
    return Producer({**ours, **config})


def _unheard(error: KafkaError) -> None:
    """No-op callback: each delivery reports the errors of brokers."""


def _put(
    producer: Producer, topic: str, event: Mapping[str, Any], number: int, deliveries: dict[int, Delivery]
) -> None:
    def answered(error: KafkaError | None, _message: Message) -> None:
        if error is None:
            deliveries[number] = Delivery(True)
        else:
            deliveries[number] = (
                _LATE if error.name() in _GIVEN_UP else Delivery(False, one_line(f"Kafka: {error.name()}"))
            )

    try:
        producer.produce(topic, json.dumps(event).encode(), key=_key(event), on_delivery=answered)
    except BufferError:
        deliveries[number] = Delivery(False, "more events at once than the producer holds", tried=False)
    except Exception as error:  # noqa: BLE001 - KafkaException derives from Exception alone
        deliveries[number] = Delivery(False, f"Kafka: {_code(error)}")
    producer.poll(0)


def _key(event: Mapping[str, Any]) -> str:
    return str(event["run"]["runId"] if "run" in event else event["source"])


def _code(error: Exception) -> str:
    """The code of a KafkaException, or the type of another error."""
    name = getattr(error.args[0] if error.args else None, "name", None)
    return str(name()) if name is not None else type(error).__name__

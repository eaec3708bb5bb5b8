"""Sends cropline's own events to those who want them: a webhook, Kafka, Prefect. All within one time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cropline.lineage.delivery import Delivery, PublishResult, send_to_each

if TYPE_CHECKING:
    from cropline.config.events import EventSettings

Emit = Callable[[Mapping[str, Any]], Delivery]
"""Emits one event as an event of Prefect."""


class Receivers:
    """The receivers of the settings. Keep one per run: ``timeout_s`` bounds all its calls together.

    No failure of a receiver is raised: the delivery reports it. An event may arrive twice, with the same id.
    """

    def __init__(self, settings: EventSettings, emit: Emit) -> None:
        self._settings = settings
        self._emit = emit
        self._left_s = settings.timeout_s

    def publish(self, events: Sequence[Mapping[str, Any]], arrived: Sequence[Collection[str]] = ()) -> PublishResult:
        """Send the events in order. ``arrived``: for each event, the receivers that have it already.

        Without a receiver all events count as delivered, so that they leave the outbox.
        """
        started = time.monotonic()
        try:
            told = send_to_each(self._settings.receivers, self._send, events, arrived, started + self._left_s)
            return PublishResult(tuple(told))
        finally:
            self._left_s = max(0.0, self._left_s - (time.monotonic() - started))

    def _send(self, name: str, events: Sequence[Mapping[str, Any]], deadline: float) -> list[Delivery]:
        settings = self._settings
        if name == "prefect":
            return [self._emit(event) for event in events]
        if name == "kafka":
            from cropline.lineage.kafka import produce

            config = {option: value.get_secret_value() for option, value in settings.kafka.items()}
            return produce(config, settings.topic, events, deadline)
        from cropline.lineage.webhook import post_signed

        return post_signed(settings.url.get_secret_value(), settings.secret.get_secret_value(), events, deadline)

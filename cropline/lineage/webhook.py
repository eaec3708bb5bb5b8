"""Sends cropline's own events to a webhook, each signed by HMAC-SHA256, within one time limit."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cropline.lineage.delivery import Delivery, PublishResult
from cropline.lineage.transports import Post

if TYPE_CHECKING:
    from cropline.config.events import EventSettings

SIGNATURE = "X-Cropline-Signature"


class Webhook:
    """The receiver of the settings. Keep one per run: ``timeout_s`` bounds all its calls together.

    No failure of the receiver is raised: the delivery reports it. An event may arrive twice, with the same id.
    """

    def __init__(self, settings: EventSettings) -> None:
        self._settings = settings
        self._left_s = settings.timeout_s

    def publish(self, events: Sequence[Mapping[str, Any]]) -> PublishResult:
        """Send the events in order. Without a URL nobody wants them any more: they count as arrived."""
        if not self._settings.wanted:
            return PublishResult((Delivery(True),) * len(events))
        started = time.monotonic()
        post = Post(
            self._settings.url.get_secret_value(),
            {"Content-Type": "application/json"},
            [dict(event) for event in events],
            sign=self._sign,
            to="the webhook",
            endpoint="/",
        )
        try:
            return PublishResult(tuple(post.deliver(started + self._left_s)))
        finally:
            self._left_s = max(0.0, self._left_s - (time.monotonic() - started))

    def _sign(self, body: bytes) -> dict[str, str]:
        return {SIGNATURE: signature(self._settings.secret.get_secret_value(), int(time.time()), body)}


def signature(secret: str, at: int, body: bytes) -> str:
    """Return ``t=<seconds since 1970>,v1=<hex>``: HMAC-SHA256 of the time, a dot and the body."""
    made = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={made}"

"""Sends cropline's own events to a webhook, each signed by HMAC-SHA256."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cropline.lineage.delivery import Delivery
from cropline.lineage.transports import Post

SIGNATURE = "X-Cropline-Signature"


def post_signed(url: str, secret: str, events: Sequence[Mapping[str, Any]], deadline: float) -> list[Delivery]:
    """Send the events in order until the deadline. No failure of the receiver is raised: the delivery reports it."""
    post = Post(
        url,
        {"Content-Type": "application/json"},
        [dict(event) for event in events],
        sign=lambda body: {SIGNATURE: signature(secret, int(time.time()), body)},
        to="the webhook",
        endpoint="/",
    )
    return post.deliver(deadline)


def signature(secret: str, at: int, body: bytes) -> str:
    """Return ``t=<seconds since 1970>,v1=<hex>``: HMAC-SHA256 of the time, a dot and the body."""
    made = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={made}"

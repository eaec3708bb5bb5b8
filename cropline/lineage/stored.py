"""Lineage events as objects in the store, when it is not a local folder. Each delivery is one object, written once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cropline.core.errors import StorageError
from cropline.core.keys import digest
from cropline.core.scrub import one_line
from cropline.lineage.delivery import NOT_REACHED, Delivery
from cropline.lineage.events import Event

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

FOLDER = "lineage"
"""Prefix of the objects; below it is one folder per day."""


def lines(events: Sequence[Event]) -> bytes:
    """Return the events as JSON, one per line."""
    return "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events).encode()


def store_lines(spec: StoreSpec, events: Sequence[Event], deadline: float) -> list[Delivery]:
    """Put the events into one object, all or none. The same delivery sent again is the same object.

    The caller waits no longer than its deadline, whatever the store does.
    """
    if time.monotonic() >= deadline:
        return [Delivery(False, NOT_REACHED, tried=False)] * len(events)
    data = lines(events)
    day, _, clock = str(events[0].get("eventTime", "undated")).partition("T")
    key = f"{FOLDER}/{day}/{''.join(filter(str.isdigit, clock))[:12]}-{digest(data.decode())[:24]}.ndjson"
    told: list[Delivery] = []
    thread = threading.Thread(target=lambda: told.append(_put(spec, key, data)), name="lineage", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    return (list(told) or [Delivery(False, "the storage did not answer in time")]) * len(events)


def _put(spec: StoreSpec, key: str, data: bytes) -> Delivery:
    from cropline.core import storage

    try:
        storage.write(spec, key, data, within_s=storage.HASTY_S)
    except StorageError as error:
        return Delivery(False, one_line(str(error)))
    return Delivery(True)

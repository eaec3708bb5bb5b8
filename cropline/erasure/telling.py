"""Emits an erasure's lineage events into the outbox, before the erasure ends: none ends without its events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cropline.keys import canonical_json
from cropline.lineage import event_id
from cropline.lineage.erasure import Gone, erasure_began, erasure_ended

if TYPE_CHECKING:
    from cropline.settings import Settings
    from cropline.state import Erasure, State

Tell = Callable[["Erasure", Gone | None], None]
"""Called when an erasure begins or is gone on with (None), and when nothing of it is left."""


def untold(_erasure: Erasure, _gone: Gone | None) -> None:
    """No-op callback: lineage is off."""


def teller(settings: Settings, state: State) -> Tell:
    """A callback that puts the events into the outbox. Duplicate events are ignored."""

    def tell(erasure: Erasure, gone: Gone | None) -> None:
        from cropline.state import Event

        if gone is None:
            event = erasure_began(settings, erasure.erasure_id, erasure.began_at)
        else:
            event = erasure_ended(settings, erasure.erasure_id, erasure.began_at, datetime.now(UTC), gone)
        state.enqueue_events([Event(event_id(event), canonical_json(event))])

    return tell

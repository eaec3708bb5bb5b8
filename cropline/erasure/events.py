"""Emits an erasure's lineage events into the outbox before the erasure ends, so that none ends without them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cropline.core.keys import canonical_json
from cropline.lineage import event_id
from cropline.lineage.erasure import ErasureTotals, erasure_began, erasure_ended
from cropline.lineage.own_events import images_erased

if TYPE_CHECKING:
    from cropline.config.settings import Settings
    from cropline.state import Erasure, State

Emit = Callable[["Erasure", ErasureTotals | None], None]
"""Called with None when an erasure begins or continues, and with the totals when everything is removed."""


def emit_nothing(_erasure: Erasure, _gone: ErasureTotals | None) -> None:
    """No-op emitter: lineage is not kept."""


def event_emitter(settings: Settings, state: State) -> Emit:
    """Return an emitter that puts events into the outbox. Duplicate events are ignored."""

    def emit(erasure: Erasure, totals: ErasureTotals | None) -> None:
        from cropline.state import Event

        if totals is None:
            event = erasure_began(settings, erasure.erasure_id, erasure.began_at)
        else:
            event = erasure_ended(settings, erasure.erasure_id, erasure.began_at, datetime.now(UTC), totals)
        own = []
        if totals is not None and settings.events.wanted:
            at, ids = datetime.now(UTC), totals.image_ids
            own = list(images_erased(erasure.source, erasure.erasure_id, ids, totals.catalogue_version, at))
        state.enqueue_events(
            [Event(event_id(event), canonical_json(event)), *(Event(one["id"], canonical_json(one)) for one in own)]
        )

    return emit

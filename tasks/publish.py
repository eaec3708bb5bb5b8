"""publish: sends the outbox to the lineage collector, at least once. A collector that is down never fails a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.events import emit_event
from prefect.exceptions import EventTooLarge

from cropline.pipeline.run import Run
from tasks.options import STEP

if TYPE_CHECKING:
    from cropline.lineage import Delivery, Publisher, PublishResult
    from cropline.lineage.receivers import Receivers
    from cropline.state import Event

_AT_A_TIME = 500


def publish(run: Run) -> int:
    """Send pending events, oldest first. Return how many arrived. The others wait for the next run."""
    from cropline.lineage import Publisher
    from cropline.lineage.receivers import Receivers

    end_expired_runs(run)
    publisher = Publisher(run.settings.lineage, run.spec)
    receivers = Receivers(run.settings.events, lambda event: _emit(run, event))
    sent = 0
    while events := run.state.pending_events(_AT_A_TIME):
        result = _send(publisher, receivers, events)
        sent += _note(run, events, result)
        if not result.complete:
            get_run_logger().warning("events: %s; the remaining events wait for the next run", result.reason)
            break
    return sent


publish_task = task(name="publish", task_run_name="publish lineage", **STEP)(publish)


def _send(publisher: Publisher, receivers: Receivers, events: Sequence[Event]) -> PublishResult:
    """Send lineage to the collector and cropline's own events to their receivers. One failure affects no other."""
    from cropline.lineage import PublishResult
    from cropline.lineage.own_events import is_own

    payloads = [json.loads(event.payload) for event in events]
    own = [at for at, payload in enumerate(payloads) if is_own(payload)]
    others = sorted({*range(len(events))} - {*own})
    lineage = publisher.publish([payloads[at] for at in others], [events[at].arrived for at in others])
    told = receivers.publish([payloads[at] for at in own], [events[at].arrived for at in own])
    found = dict(zip([*others, *own], [*lineage.deliveries, *told.deliveries], strict=True))
    return PublishResult(tuple(found[at] for at in range(len(events))))


def _emit(run: Run, event: Mapping[str, Any]) -> Delivery:
    """Hand one of cropline's own events to Prefect's client, under its own id: the server stores it once."""
    from cropline.lineage import Delivery

    try:
        emitted = emit_event(
            event["type"],
            id=UUID(event["id"]),
            occurred=datetime.fromisoformat(event["time"]),
            resource={
                "prefect.resource.id": run.settings.resource("source", event["source"]),
                "prefect.resource.name": event["source"],
            },
            payload=dict(event),
        )
    except (EventTooLarge, ValueError) as error:
        return Delivery(False, f"Prefect refuses the event: {type(error).__name__}")
    return Delivery(emitted is not None, None if emitted is not None else "there is no Prefect server")


def _note(run: Run, events: Sequence[Event], result: PublishResult) -> int:
    """Store the delivery of each event. Return how many need not be sent again."""
    pairs = [(event, to) for event, to in zip(events, result.deliveries, strict=True)]
    arrived = [event.event_id for event, to in pairs if to.ok]
    run.state.mark_published(arrived)
    run.state.mark_arrived(
        {event.event_id: to.arrived for event, to in pairs if not to.ok and to.arrived != event.arrived}
    )
    if refused := [event.event_id for event, to in pairs if to.tried and not to.ok]:
        run.state.mark_publish_failed(refused, result.reason or "")
    return len(arrived)


def end_expired_runs(run: Run) -> int:
    """Emit the end of runs that were killed. Return how many."""
    from cropline.lineage import abort_of

    ended = 0
    for expired in run.state.expired_runs():
        why = f"no sign of life since {expired.alive_until:%Y-%m-%d %H:%M:%S} UTC: the run was killed, or its host is down"
        event = abort_of(json.loads(expired.start), datetime.now(UTC), why)
        ended += run.state.end_run(expired.flow_run, run.events([event]), expired_only=True)
    return ended

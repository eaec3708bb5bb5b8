"""OpenLineage: events about what a run did to which datasets, and sending them.

It holds: building events (events, facets, datasets, the event builder), sending them (transports), drawing them (graph).
It does not hold the outbox, which is a table of the state. Importing this package imports no HTTP library and not
openlineage-python: see docs/decisions/0006-lineage.md.
"""

from cropline.lineage.delivery import Delivery, PublishResult
from cropline.lineage.events import Event, EventKind, RunContext, abort_of, engine_version, event_id, run_event, run_id
from cropline.lineage.graph import lineage_svg
from cropline.lineage.story import Story
from cropline.lineage.transports import Publisher

__all__ = [
    "Delivery",
    "Event",
    "EventKind",
    "PublishResult",
    "Publisher",
    "RunContext",
    "Story",
    "abort_of",
    "engine_version",
    "event_id",
    "lineage_svg",
    "run_event",
    "run_id",
]

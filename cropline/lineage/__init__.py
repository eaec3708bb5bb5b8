"""OpenLineage: events about what a run did to which datasets, and sending them.

It holds building events (events.py, facets.py, datasets.py, event_builder.py), sending them (transports.py)
and drawing them (graph.py). It does not hold the outbox, which is a table of the state. Importing this
package imports no HTTP client and no openlineage: docs/decisions/0006-lineage.md says why the events are
built without its classes.
"""

from cropline.lineage.delivery import Delivery, PublishResult
from cropline.lineage.event_builder import EventBuilder
from cropline.lineage.events import Event, EventKind, RunContext, abort_of, engine_version, event_id, run_event, run_id
from cropline.lineage.graph import lineage_svg
from cropline.lineage.transports import Publisher

__all__ = [
    "Delivery",
    "Event",
    "EventBuilder",
    "EventKind",
    "PublishResult",
    "Publisher",
    "RunContext",
    "abort_of",
    "engine_version",
    "event_id",
    "lineage_svg",
    "run_event",
    "run_id",
]

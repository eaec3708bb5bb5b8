"""The state table: which image is wanted, being worked on, done or failed; the work queue and the memory in one.

Belongs here: everything that is SQL. Does not: object storage, the catalogue, or any step. docs/decisions/0003-state-as-queue.md
says why a table is the queue.
"""

from typing import TYPE_CHECKING, Any

from cropline.state.model import (
    WORK_STATES,
    BackfillStart,
    BacklogSample,
    Batch,
    BatchState,
    Bound,
    Committed,
    Counts,
    Erasure,
    Event,
    ExpiredRun,
    ImageState,
    Outcome,
    ReasonCount,
    Recrop,
    Registered,
    Registration,
    SourceState,
    StateReport,
    WorkState,
)
from cropline.state.state import State

if TYPE_CHECKING:
    from cropline.state.candidates import CANDIDATES

__all__ = [
    "CANDIDATES",
    "WORK_STATES",
    "BackfillStart",
    "BacklogSample",
    "Batch",
    "BatchState",
    "Bound",
    "Committed",
    "Counts",
    "Erasure",
    "Event",
    "ExpiredRun",
    "ImageState",
    "Outcome",
    "ReasonCount",
    "Recrop",
    "Registered",
    "Registration",
    "SourceState",
    "State",
    "StateReport",
    "WorkState",
]


def __getattr__(name: str) -> Any:
    # Arrow takes as long to import as SQLAlchemy; who only asks for the cursor does not need it.
    if name == "CANDIDATES":
        from cropline.state.candidates import CANDIDATES

        return CANDIDATES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The state table, in SQL: work items that are pending, claimed, done or failed.

It is the work queue and the memory in one.

This package holds all SQL of cropline. Not here: object storage, the catalogue, and any step of a run. Reasons:
docs/decisions/0003-state-as-queue.md.
"""

from typing import TYPE_CHECKING, Any

from cropline.state.metrics import CroppedInWindow, FlowEnd, StateMetrics
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
    from cropline.state.outcomes import OUTCOMES

__all__ = [
    "CANDIDATES",
    "OUTCOMES",
    "WORK_STATES",
    "BackfillStart",
    "BacklogSample",
    "Batch",
    "BatchState",
    "Bound",
    "Committed",
    "Counts",
    "CroppedInWindow",
    "Erasure",
    "Event",
    "ExpiredRun",
    "FlowEnd",
    "ImageState",
    "Outcome",
    "ReasonCount",
    "Recrop",
    "Registered",
    "Registration",
    "SourceState",
    "State",
    "StateMetrics",
    "StateReport",
    "WorkState",
]


def __getattr__(name: str) -> Any:
    # Lazy: Arrow takes as long to import as SQLAlchemy, and an idle poll does not need it.
    if name == "CANDIDATES":
        from cropline.state.candidates import CANDIDATES

        return CANDIDATES
    if name == "OUTCOMES":
        from cropline.state.outcomes import OUTCOMES

        return OUTCOMES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What became of each event that was to be sent.

Belongs here: the answers. Does not: sending (transports.py, kafka.py).
"""

from __future__ import annotations

from dataclasses import dataclass

NOT_REACHED = "not tried: the time for lineage was used up"


@dataclass(frozen=True)
class Delivery:
    """One event: whether it arrived, and if not, why, scrubbed. ``tried`` False: nothing was learned about it.

    ``arrived``: the ways of a composite that have it, by now; those are not asked again.
    """

    ok: bool
    reason: str | None = None
    tried: bool = True
    arrived: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishResult:
    """One delivery an event, in the order given."""

    deliveries: tuple[Delivery, ...]

    @property
    def published(self) -> int:
        return sum(delivery.ok for delivery in self.deliveries)

    @property
    def complete(self) -> bool:
        """Whether all arrived. If not, going on in this run would only cost time."""
        return self.published == len(self.deliveries)

    @property
    def reason(self) -> str | None:
        """Why the first one that did not arrive did not."""
        return next((delivery.reason for delivery in self.deliveries if not delivery.ok), None)

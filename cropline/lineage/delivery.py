"""Whether each event that was sent has arrived."""

from __future__ import annotations

from dataclasses import dataclass

NOT_REACHED = "not tried: the time for lineage was used up"


@dataclass(frozen=True)
class Delivery:
    """The result for one event: whether it arrived, and if not, why (scrubbed). ``tried`` False: the result is unknown.

    ``arrived``: the transports of a composite that have the event. They are not asked again.
    """

    ok: bool
    reason: str | None = None
    tried: bool = True
    arrived: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishResult:
    """One delivery per event, in the given order."""

    deliveries: tuple[Delivery, ...]

    @property
    def published(self) -> int:
        return sum(delivery.ok for delivery in self.deliveries)

    @property
    def complete(self) -> bool:
        """Whether all events arrived. If not, sending more in this run would only cost time."""
        return self.published == len(self.deliveries)

    @property
    def reason(self) -> str | None:
        """Why the first event that is missing did not arrive."""
        return next((delivery.reason for delivery in self.deliveries if not delivery.ok), None)

"""Whether each event that was sent has arrived."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

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


def send_to_each(
    names: Sequence[str],
    send: Callable[[str, Sequence[Any], float], list[Delivery]],
    events: Sequence[Any],
    arrived: Sequence[Collection[str]],
    deadline: float,
) -> list[Delivery]:
    """Send the events to each of several receivers by ``send(name, events, deadline)``, so that no failure affects another.

    ``arrived``: for each event, the receivers that have it already; they do not get it again.
    """
    has = [set(some) for some in arrived] or [set() for _ in events]
    failed: dict[int, Delivery] = {}
    for number, name in enumerate(names):
        missing = [at for at in range(len(events)) if name not in has[at]]
        if not missing:
            continue
        now = time.monotonic()
        until = now + max(0.0, deadline - now) / (len(names) - number)
        for at, delivery in zip(missing, send(name, [events[at] for at in missing], until), strict=True):
            if delivery.ok:
                has[at].add(name)
            elif at not in failed or not failed[at].tried:
                failed[at] = replace(delivery, reason=f"{name}: {delivery.reason}") if len(names) > 1 else delivery
    return [replace(failed.get(at, Delivery(True)), arrived=tuple(sorted(some))) for at, some in enumerate(has)]

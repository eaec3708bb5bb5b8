"""What a watch came to: its looks, and what was done below them, in all and since it was last told.

Belongs here: adding up. Does not: looking.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from cropline.funnel import Funnel

_KEPT = 200  # of a list: samples and failures are for people


@dataclass
class Watched:
    """Looks without news, looks that failed, and what the others did."""

    idle: int = 0
    polls: int = 0
    failed: int = 0
    images: int = 0
    written: int = 0
    minute: Funnel = field(default_factory=Funnel)

    def add(self, funnel: Funnel) -> None:
        """One look that found something."""
        self.polls += 1
        self.images += funnel.images
        self.written += funnel.written
        add_up(self.minute, funnel)

    def next_minute(self) -> None:
        """What was done so far is told."""
        self.minute = Funnel()


def add_up(total: Funnel, more: Funnel) -> None:
    """Counts are added, lists are joined as far as people look, the newest key or address stays."""
    for entry in fields(Funnel):
        held, new = getattr(total, entry.name), getattr(more, entry.name)
        if isinstance(new, int | float):
            setattr(total, entry.name, held + new)
        elif isinstance(new, Counter):
            held.update(new)
        elif isinstance(new, list):
            setattr(total, entry.name, [*held, *new][-_KEPT:])
        elif new is not None:
            setattr(total, entry.name, new)

"""Which photos are to be forgotten: some by id, those of some stores, or those captured before a moment.

Belongs here: the selection and finding its photos. Does not: removing anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cropline.catalogue import Catalogue
from cropline.keys import canonical_json

if TYPE_CHECKING:
    from cropline.state import State

_AT_MOST = 10_000_000


@dataclass(frozen=True)
class Selection:
    """Exactly one of the three. ``before`` needs a time zone."""

    images: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    before: datetime | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """As it was asked for, in an order of its own, so that the same asked again is the same."""
        if self.before is not None:
            return {"before": self.before.astimezone(UTC).isoformat()}
        return {"stores": sorted(set(self.stores))} if self.stores else {"images": sorted(set(self.images))}

    @property
    def text(self) -> str:
        """``asked`` as canonical JSON."""
        return canonical_json(self.asked)

    def in_catalogue(self, catalogue: Catalogue, source: str) -> set[str]:
        """The ids of its photos that have rows: a state that was lost and made anew may not know them."""
        if self.images:
            return set(self.images)
        return catalogue.images_of(source, self.stores, self.before)

    def in_state(self, state: State, source: str) -> set[str]:
        """The ids of its photos that the state table knows."""
        if self.images:
            return set(self.images)
        found = state.find_images(sources=[source], stores=self.stores, until=self.before, limit=_AT_MOST)
        return {work.image_id for work in found}

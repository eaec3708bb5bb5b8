"""Which photos to erase: some by id, those of some stores, or those captured before a time.

The Prefect UI shows the selection as a form, the CLI as options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from cropline.core.keys import canonical_json
from cropline.core.request import Moment, Request, in_utc

if TYPE_CHECKING:
    from cropline.catalogue import Catalogue
    from cropline.state import State

_AT_MOST = 10_000_000
_Names = tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...]


class Selection(Request):
    """Exactly one of the three fields is set."""

    images: _Names = Field((), title="Images", description="ids of photos")
    stores: _Names = Field((), title="Stores", description="ids of stores: all of their photos so far")
    before: Annotated[Moment, AfterValidator(in_utc)] | None = Field(
        None, title="Captured before", description="all photos captured before this time; UTC when it has no offset"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(map(bool, (self.images, self.stores, self.before))) != 1:
            raise ValueError("give exactly one of images, stores and before")
        return self

    @property
    def asked(self) -> dict[str, Any]:
        """Return the selection in a fixed order, so that equal selections give equal texts."""
        if self.before is not None:
            return {"before": self.before.isoformat()}
        return {"stores": sorted(set(self.stores))} if self.stores else {"images": sorted(set(self.images))}

    @property
    def text(self) -> str:
        """Return ``asked`` as canonical JSON."""
        return canonical_json(self.asked)

    def in_catalogue(self, catalogue: Catalogue, source: str) -> set[str]:
        """Return the ids of its photos that have catalogue rows. A rebuilt state may not know them."""
        if self.images:
            return set(self.images)
        return catalogue.images_of(source, self.stores, self.before)

    def in_state(self, state: State, source: str) -> set[str]:
        """Return the ids of its photos in the state table."""
        if self.images:
            return set(self.images)
        found = state.find_images(sources=[source], stores=self.stores, until=self.before, limit=_AT_MOST)
        return {work.image_id for work in found}

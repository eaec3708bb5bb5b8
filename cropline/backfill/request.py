"""What a backfill or a replay may be asked for. The Prefect UI makes its forms of these models, the CLI its options.

Belongs here: shapes, help texts and what is contradictory in itself. Does not: anything that needs settings or the state.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cropline.core.keys import canonical_json, digest
from cropline.core.request import Moment, Request, in_utc

From = Literal["api", "manifests"]
Mode = Literal["missing", "failed", "all"]
Order = Literal["newest", "oldest"]
Ended = Literal["failed", "dead", "partial", "quarantined"]
_Names = list[Annotated[str, Field(min_length=1, max_length=1024)]]


class Photos(Request):
    """Photos by when and where they were taken."""

    since: Moment | None = Field(
        None, title="Captured since", description="the first moment that counts; without an offset it is UTC"
    )
    until: Moment | None = Field(
        None, title="Captured before", description="the first moment that no longer counts; empty is now"
    )
    stores: _Names = Field([], title="Stores", description="ids of stores; empty is every store")
    cameras: _Names = Field([], title="Cameras", description="ids of cameras; empty is every camera")
    profiles: _Names = Field([], title="Profiles", description="names of crop profiles; empty is every one of today's")

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.since and self.until and in_utc(self.since) >= in_utc(self.until):
            raise ValueError("'since' must be before 'until'")
        return self


class Limits(Request):
    """Where a run stops by itself, cleanly, between two batches. Run it again and it goes on."""

    max_batches: int | None = Field(None, ge=1, title="Batches", description="at most so many batches")
    concurrency: int = Field(
        1, ge=1, le=16, title="At the same time", description="batches under way at once; more helps on Spark only"
    )
    images: int | None = Field(None, ge=1, title="Images", description="at most so many photos")
    api_calls: int | None = Field(
        None, ge=1, title="API calls", description="at most so many pages are read from the image API"
    )
    puts: int | None = Field(None, ge=1, title="PUTs", description="at most so many crops are stored")
    bytes: int | None = Field(None, ge=1, title="Bytes", description="at most so many bytes of photos are downloaded")


def backfill_id(source: str, photos: Photos, announced: From, mode: Mode) -> tuple[str, str]:
    """(id, selection as JSON): equal for runs that go on with each other, whatever their limits and their order."""
    selection = canonical_json(
        {
            "source": source,
            "announced": announced,
            "mode": mode,
            "since": in_utc(photos.since).isoformat() if photos.since else None,
            "until": in_utc(photos.until).isoformat() if photos.until else None,
            "stores": sorted(photos.stores),
            "cameras": sorted(photos.cameras),
            "profiles": sorted(photos.profiles),
        }
    )
    return digest(selection)[:16], selection

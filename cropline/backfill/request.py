"""What a backfill or replay may be asked for. The Prefect UI makes forms of these models, and the CLI its options."""

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
        None, title="Captured since", description="the earliest capture time that counts; UTC when it has no offset"
    )
    until: Moment | None = Field(
        None, title="Captured before", description="capture times before this one count; empty means now"
    )
    stores: _Names = Field([], title="Stores", description="ids of stores; empty means all stores")
    cameras: _Names = Field([], title="Cameras", description="ids of cameras; empty means all cameras")
    profiles: _Names = Field([], title="Profiles", description="names of crop profiles; empty means all current ones")

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.since and self.until and in_utc(self.since) >= in_utc(self.until):
            raise ValueError("'since' must be before 'until'")
        return self


class Limits(Request):
    """Limits after which a run stops by itself, between two batches. The next run continues."""

    max_batches: int | None = Field(None, ge=1, title="Batches", description="the most batches to process")
    concurrency: int = Field(
        1,
        ge=1,
        le=16,
        title="At the same time",
        description="batches processed in parallel; more than 1 helps only on Spark",
    )
    images: int | None = Field(None, ge=1, title="Images", description="the most photos to process")
    api_calls: int | None = Field(
        None, ge=1, title="API calls", description="the most pages to read from the image API"
    )
    puts: int | None = Field(None, ge=1, title="PUTs", description="the most crops to store")
    bytes: int | None = Field(None, ge=1, title="Bytes", description="the most bytes of photos to download")


def backfill_id(source: str, photos: Photos, announced: From, mode: Mode) -> tuple[str, str]:
    """Return (id, selection as JSON). Runs that continue each other have the same id, whatever their limits and order."""
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

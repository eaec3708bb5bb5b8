"""The requests for backfills and replays. The Prefect UI shows these models as forms, the CLI as options."""

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

    max_batches: int | None = Field(None, ge=1, title="Batches", description="process at most this many batches")
    concurrency: int = Field(
        1,
        ge=1,
        le=16,
        title="At the same time",
        description="batches processed in parallel; more than 1 helps only on Spark",
    )
    images: int | None = Field(None, ge=1, title="Images", description="process at most this many photos")
    api_calls: int | None = Field(
        None, ge=1, title="API calls", description="read at most this many pages of the image API"
    )
    puts: int | None = Field(None, ge=1, title="PUTs", description="store at most this many crops")
    bytes: int | None = Field(None, ge=1, title="Bytes", description="download at most this many bytes of photos")


def backfill_id(source: str, photos: Photos, announced: From, mode: Mode) -> tuple[str, str]:
    """Return (id, selection as JSON).

    Runs that continue each other have the same id, whatever their limits and order.
    """
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

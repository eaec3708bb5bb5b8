"""The base class of forms and options that users fill in, and the type of times in ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _iso_8601(value: Any) -> Any:
    """Accept ISO 8601 only: pydantic would read a number, such as a bare year, as seconds since 1970."""
    if value is None or isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("not a time in ISO 8601, such as 2026-11-22 or 2026-11-22T08:40:00Z") from None
    if not 1900 <= moment.year <= 9000:  # offsets and overlaps must not leave the calendar
        raise ValueError("must be in the years 1900 to 9000")
    return moment


Moment = Annotated[datetime, BeforeValidator(_iso_8601)]


class Request(BaseModel):
    """A model that refuses unknown names: Prefect itself would drop them."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def in_utc(moment: datetime) -> datetime:
    """Return the time in UTC; one without an offset is read as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

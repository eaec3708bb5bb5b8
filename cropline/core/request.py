"""What people may ask for: the base of forms and options, and moments in ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _iso_8601(value: Any) -> Any:
    """pydantic takes a number for seconds since 1970: a year, or a day without hyphens, would be a moment of that year."""
    if value is None or isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("not a moment in ISO 8601, such as 2026-11-22 or 2026-11-22T08:40:00Z") from None
    if not 1900 <= moment.year <= 9000:  # room for offsets and overlaps, which the ends of the calendar have not
        raise ValueError("must lie in the years 1900 to 9000")
    return moment


Moment = Annotated[datetime, BeforeValidator(_iso_8601)]


class Request(BaseModel):
    """Refuses names it does not know: Prefect itself would drop them."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC; one without an offset is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

"""The format of an item's times, from their values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cropline.intake.proposals.proposal import Proposal, number_of, shown

_PATTERNS = (
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M",
    "%Y/%m/%d %H:%M:%S", "%d-%m-%Y %H:%M:%S", "%Y%m%d%H%M%S", "%d %b %Y %H:%M:%S", "%a, %d %b %Y %H:%M:%S GMT",
)  # fmt: skip
# Epoch numbers of the years 2001 to 2100.
_SECONDS = (1e9, 4.2e9)
_MILLISECONDS = (1e12, 4.2e12)


def is_time(value: Any) -> bool:
    """Whether one value looks like a time of any known format."""
    return bool(_formats([value]))


def propose_times(values: Sequence[Any]) -> list[Proposal]:
    """Return the proposed format and zone of these times; none when they are ISO 8601 with an offset."""
    formats = _formats(values)
    if not formats:
        return []
    chosen, example = formats[0], shown(values[0])
    certain = len(formats) == 1
    also = "" if certain else f"; {', '.join(formats[1:])} would fit too"
    proposals = [Proposal("time_format", chosen, f"{example}{also}", certain)]
    if not chosen.startswith("epoch") and any(_is_naive(value, chosen) for value in values):
        proposals.append(Proposal("time_zone", "UTC", f"{example} has no offset: UTC is assumed", certain=False))
    return proposals


def _formats(values: Sequence[Any]) -> list[str]:
    given = [value for value in values if value is not None]
    if not given:
        return []
    numbers = [number_of(value) for value in given]
    for name, (low, high) in (("epoch_ms", _MILLISECONDS), ("epoch_s", _SECONDS)):
        if all(number is not None and low <= number <= high for number in numbers):
            return [name]
    if not all(isinstance(value, str) and len(value) >= 8 for value in given):
        return []
    return [name for name in ("iso", *_PATTERNS) if all(_parsed(value, name) is not None for value in given)]


def _parsed(value: str, name: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if name == "iso" else datetime.strptime(value, name)
    except ValueError:
        return None


def _is_naive(value: Any, name: str) -> bool:
    moment = _parsed(value, name) if isinstance(value, str) else None
    return moment is not None and moment.tzinfo is None and not name.endswith("GMT")

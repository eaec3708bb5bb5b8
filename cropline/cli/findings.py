"""What ``cropline check`` found: one line per part, and the setting to change when it is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, SecretStr

from cropline.config.places import Location, Place, place_of, setting_name
from cropline.config.settings import Settings
from cropline.core.scrub import MASK, one_line

Status = Literal["ok", "note", "wrong"]
_ALWAYS: tuple[Location, ...] = (("storage", "url"), ("state", "url"), ("engine", "kind"))
_LONGEST = 90


@dataclass(frozen=True)
class Finding:
    """One line. ``to_do``: the setting and what to do, for what is wrong or uncertain."""

    status: Status
    what: str
    text: str
    to_do: str = ""


def settings_rows(settings: Settings, places: Sequence[Place]) -> list[tuple[str, str, str]]:
    """Return (setting, value, place) of every value that is set, and of some defaults. Secrets are masked."""
    rows = [
        (
            setting_name(list(places), location).rpartition(": ")[2],
            _shown(_common(settings, place, location, value), location),
            place.name,
        )
        for location, value in _values(settings, ())
        if (place := place_of(list(places), location)) is not None
    ]
    for location in _ALWAYS:
        if place_of(list(places), location) is None:
            value: Any = settings
            for part in location:
                value = getattr(value, str(part))
            rows.append((setting_name([], location), _shown(value, location), "default"))
    return rows


def _common(settings: Settings, place: Place, location: Location, value: Any) -> Any:
    """Return a common value of the API as it is written: with several sources it is below theirs, and nowhere else."""
    if not settings.sources or location[0] != "api" or isinstance(value, SecretStr):
        return value
    if "headers" in location:
        return MASK
    found: Any = place.values
    for part in location:
        found = found[part] if isinstance(found, dict) else found
    return found


def _values(group: BaseModel, at: Location) -> Iterator[tuple[Location, Any]]:
    """Yield the leaves of the settings with their locations."""
    for name in type(group).model_fields:
        yield from _leaves(getattr(group, name), (*at, name))


def _leaves(value: Any, at: Location) -> Iterator[tuple[Location, Any]]:
    if isinstance(value, BaseModel):
        yield from _values(value, at)
    elif isinstance(value, dict) and value and all(isinstance(part, BaseModel | SecretStr) for part in value.values()):
        for name, part in value.items():
            yield from _leaves(part, (*at, str(name)))
    else:
        yield at, value


def _shown(value: Any, location: Location) -> str:
    if location == ("state", "url"):
        return one_line(value.get_secret_value(), _LONGEST)
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else "(empty)"
    return one_line(str(value), _LONGEST)

"""Where settings are read: the environment, ``.env`` and the TOML file, in this order.

Each place notes what it holds, so that a mistake, and ``cropline check``, can name the place. Secrets are not read from
the file: it names a variable instead, as ``env:NAME``.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

from cropline.core.errors import SettingsError

PREFIX = "CROPLINE_"
ENV_FILE = ".env"
CONFIG = f"{PREFIX}CONFIG"
_DEFAULT_FILE = "cropline.toml"
_VARIABLE = "env:"

Location = tuple[int | str, ...]


@dataclass(frozen=True)
class Place:
    """One place, and what it holds: names and values as a tree. ``file``: the TOML file; None for variables."""

    name: str
    file: str | None
    values: Mapping[str, Any]

    def holds(self, location: Location) -> bool:
        """Return whether it has a value at this location, or at one around or below it."""
        found: Any = self.values
        for part in _normal(location):
            if not isinstance(found, Mapping):
                return True
            if part not in found:
                return False
            found = found[part]
        return True


_read: ContextVar[list[Place] | None] = ContextVar("cropline_places", default=None)


@contextmanager
def noted_places() -> Iterator[list[Place]]:
    """Yield the list of places that settings are read from in this block, the strongest first."""
    places: list[Place] = []
    token = _read.set(places)
    try:
        yield places
    finally:
        _read.reset(token)


def setting_name(places: list[Place], location: Location) -> str:
    """Return the name of a setting, as its place spells it: a variable, or the file and the key in it."""
    place = place_of(places, location)
    parts = [str(part) for part in location if part != "[key]"]
    if place is not None and place.file is not None:
        return f"{place.file}: {'.'.join(parts)}"
    if parts[:1] == ["sources"] and len(parts) > 1:
        parts[1] = parts[1].replace("-", "_").replace(".", "_")
    return PREFIX + "__".join(parts).upper()


def place_of(places: list[Place], location: Location) -> Place | None:
    """Return the place that sets this value; None when it is a default."""
    return next((place for place in places if place.holds(location)), None)


def settings_sources(
    cls: type[BaseSettings], given: PydanticBaseSettingsSource
) -> tuple[PydanticBaseSettingsSource, ...]:
    """Return the places in their order, arguments first."""
    return given, _Environment(cls), _EnvFile(cls), _ConfigFile(cls)


def config_file() -> Path | None:
    """Return the TOML file that CROPLINE_CONFIG names, or ./cropline.toml if it exists; else None."""
    named = os.environ.get(CONFIG) or dotenv_values(ENV_FILE).get(CONFIG)
    if named:
        return Path(named)
    return Path(_DEFAULT_FILE) if Path(_DEFAULT_FILE).is_file() else None


def normal_name(name: str) -> str:
    """Return a source's name as deployments have it: two names with the same one cannot be told apart."""
    return name.lower().replace("_", "-").replace(".", "-")


def merged(first: Mapping[str, Any], *more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mappings as one, with the later ones on top, at every depth."""
    result = dict(first)
    for values in more:
        for name, value in values.items():
            below = result.get(name)
            both = isinstance(below, Mapping) and isinstance(value, Mapping)
            result[name] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def by_normal_name(sources: Any, *, written: bool) -> Any:
    """Return sources by their normal names. ``written``: keep the name as it is written too, under the key ""."""
    if not isinstance(sources, Mapping):
        return sources
    found: dict[str, Any] = {}
    for name, values in sources.items():
        normal = normal_name(str(name))
        if not isinstance(values, Mapping):
            found[normal] = values
            continue
        found[normal] = merged({"": str(name)} if written else {}, found.get(normal, {}), values)
    return found


def _normal(location: Location) -> Location:
    in_source = len(location) > 1 and location[0] == "sources"
    return (location[0], normal_name(str(location[1])), *location[2:]) if in_source else location


def refuse_same_names(names: list[str], where: str) -> None:
    """Raise SettingsError for two sources by one name, or by names that become one deployment's name."""
    seen: dict[str, str] = {}
    for name in names:
        normal = normal_name(name)
        if normal in seen:
            both = repr(name) if name == seen[normal] else f"{seen[normal]!r} and {name!r}"
            raise SettingsError(f"{where}: two sources by one name, {both}: both would be the deployment poll-{normal}")
        seen[normal] = name


def _note(name: str, values: dict[str, Any], *, file: str | None = None) -> dict[str, Any]:
    places = _read.get()
    if places is not None and values:
        places.append(Place(name, file, values))
    return values


class _Environment(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ARG002
        return _decoded(field_name, value)

    def __call__(self) -> dict[str, Any]:
        return _note("environment", _from_variables(super().__call__()))


class _EnvFile(DotEnvSettingsSource):
    def __init__(self, cls: type[BaseSettings]) -> None:
        # Names without our prefix are others': the secrets that the TOML file names, or a cloud's credentials.
        super().__init__(cls, dotenv_filtering="match_prefix")

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ARG002
        return _decoded(field_name, value)

    def __call__(self) -> dict[str, Any]:
        return _note(ENV_FILE, _from_variables(super().__call__()))


class _ConfigFile(TomlConfigSettingsSource):
    def __init__(self, cls: type[BaseSettings]) -> None:
        self._path = config_file()
        self._cls = cls
        # The library reads a missing file as an empty one.
        if self._path is not None and not self._path.is_file():
            raise SettingsError(f"{CONFIG}: there is no file {self._path}")
        super().__init__(cls, toml_file=self._path)

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        where = str(self._path)
        try:
            values = super()._read_file(file_path)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{where}: cannot be read ({type(error).__name__})") from None
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{where}: not TOML: {' '.join(str(error).split())}") from None
        values = _without_secrets(values, self._cls, (), where)
        if isinstance(values.get("sources"), Mapping):
            refuse_same_names(list(values["sources"]), f"{where}: sources")
            values["sources"] = by_normal_name(values["sources"], written=True)
        return values

    def __call__(self) -> dict[str, Any]:
        return _note(str(self._path), super().__call__(), file=str(self._path))


def _from_variables(data: dict[str, Any]) -> dict[str, Any]:
    if "sources" in data:
        data["sources"] = by_normal_name(data["sources"], written=False)
    return data


def _decoded(field_name: str, value: Any) -> Any:
    """Return the JSON of a variable, in which no name stands twice: the first one would be dropped in silence."""
    decoded = json.loads(value, object_pairs_hook=partial(_pairs, f"{PREFIX}{field_name.upper()}"))
    if field_name == "sources" and isinstance(decoded, Mapping):
        refuse_same_names(list(decoded), f"{PREFIX}SOURCES")
        return by_normal_name(decoded, written=True)
    return decoded


def _pairs(variable: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SettingsError(f"{variable}: the name {twice!r} stands twice in one JSON object; each may stand once")
    return found


def _without_secrets(values: Mapping[str, Any], model: type[BaseModel], at: Location, where: str) -> dict[str, Any]:
    """Return the file's values with those of the variables that it names for secrets.

    Raise SettingsError for a secret that stands in the file, and for a variable that is not set.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        field = model.model_fields.get(name)
        found[name] = value if field is None else _filled(value, field.annotation, (*at, name), where)
    return found


def _filled(value: Any, annotation: Any, at: Location, where: str) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next(
            (found for kind in get_args(annotation) if (found := _filled(value, kind, at, where)) != value), value
        )
    if annotation is SecretStr:
        return _secret(value, at, where)
    if isinstance(value, Mapping):
        if get_origin(annotation) is dict:
            inner = get_args(annotation)[1]
            return {name: _filled(part, inner, (*at, name), where) for name, part in value.items()}
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return _without_secrets(value, annotation, at, where)
    return value


def _secret(value: Any, at: Location, where: str) -> Any:
    key = f"{where}: {'.'.join(map(str, at))}"
    if not isinstance(value, str) or not value:
        return value
    if not value.startswith(_VARIABLE):
        if at == ("state", "url") and urlsplit(value).password is None:
            return value
        variable = PREFIX + "__".join(map(str, at)).upper().replace("-", "_")
        raise SettingsError(
            f'{key}: a secret may not stand in the file; set {variable} in the environment, or write "env:NAME" and set NAME'
        )
    name = value.removeprefix(_VARIABLE)
    filled = os.environ.get(name, dotenv_values(ENV_FILE).get(name))
    if filled is None:
        raise SettingsError(f"{key}: names the variable {name}, which is not set")
    return filled

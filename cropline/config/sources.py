"""Settings of several sources in one installation: each has its own groups over the common ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cropline.config.api import ApiSettings
from cropline.config.batch import BatchSettings
from cropline.config.expectations import ExpectationSettings
from cropline.config.fetch import FetchSettings
from cropline.config.group import Group
from cropline.config.pictures import PictureLimits
from cropline.config.places import PREFIX, merged, refuse_same_names
from cropline.core.errors import SettingsError

_SETTING = f"{PREFIX}SOURCES"
# Names are part of keys and of deployment names.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,38}[A-Za-z0-9])?")


class SourceSettings(Group):
    """One source of several: its settings over the common ones of the same group. Its name is its source name."""

    api: ApiSettings = ApiSettings()
    fetch: FetchSettings = FetchSettings()
    pictures: PictureLimits = PictureLimits()
    expectations: ExpectationSettings = ExpectationSettings()
    batch: BatchSettings = BatchSettings()


GROUPS = tuple(SourceSettings.model_fields)


def over_common(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return raw settings in which each source has the common values below its own.

    The common API settings are then in the sources only: alone they need not be complete. Raise SettingsError
    for a wrong name.
    """
    sources = data.get("sources")
    if not isinstance(sources, Mapping) or not sources:
        return dict(data)
    common = {name: data[name] for name in GROUPS if isinstance(data.get(name), Mapping)}
    complete = {}
    for normal, values in sources.items():
        if not isinstance(values, Mapping):
            complete[normal] = values
            continue
        name = str(values.get("", normal))
        _check_name(name)
        own = {key: value for key, value in values.items() if key != ""}
        _check_own(name, own)
        whole = merged(common, own)
        api = whole.get("api", {})
        complete[name] = whole | {"api": merged(api, {"source": name}) if isinstance(api, Mapping) else api}
    refuse_same_names(list(complete), _SETTING)
    rest = {name: value for name, value in data.items() if name != "api"}
    return rest | {"sources": complete}


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{_SETTING}: {name!r} is no name of a source; use up to 40 letters, digits, -, _ and ., as in acme-eu"
        )


def _check_own(name: str, values: Mapping[str, Any]) -> None:
    for key in values:
        if key not in GROUPS and key in ApiSettings.model_fields:
            raise SettingsError(f"{_SETTING}: {name} has {key}; settings stand in their group: api.{key}")
    api = values.get("api")
    if isinstance(api, Mapping) and "source" in api and api["source"] != name:
        raise SettingsError(f"{_SETTING}: {name} has api.source; the name of a source is its key: {name}")

"""The user's mapping function: from an item to a dict of our fields. It may leave any of them to the paths."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cropline.config.api import MAPS, ApiSettings
from cropline.config.field_map import FieldMap
from cropline.intake.plain_values import plain
from cropline.intake.user_code import load_function, where

SETTING = "CROPLINE_API__MAP"

OUR_NAMES = FieldMap(**{name: name for name in FieldMap.model_fields})
"""The paths of what the function returns: our own names."""


class MapError(Exception):
    """The function failed for one item. The text is safe to show."""


def mapped(item: Any, api: ApiSettings) -> Mapping[str, Any]:
    """Return what the function makes of an item, empty without a function; times may be datetimes.

    Raise MapError when it fails, SettingsError when it cannot be loaded.
    """
    if not api.map:
        return {}
    function = load_function(SETTING, api.map, MAPS)
    try:
        found = function(item)
        if isinstance(found, Mapping):
            return {str(name): value if isinstance(value, datetime) else plain(value) for name, value in found.items()}
        failure = MapError(f"{SETTING} {api.map} returned a {type(found).__name__}, not a dict")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's function raises anything
        failure = MapError(f"{SETTING} {api.map} raised {where(error)}")
    raise failure

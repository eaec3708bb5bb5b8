"""Convert the values of an item to our types.

A value that cannot be converted becomes UNREADABLE; nothing is guessed.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

from cropline.config.api import ApiSettings

UNREADABLE: Final = object()


def read_text(value: Any) -> Any:
    """Return text, or a whole number as text. NUL and lone surrogates are refused, as databases and Parquet do."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**400 else UNREADABLE
    if not isinstance(value, str) or "\x00" in value:
        return UNREADABLE
    try:
        value.encode()
    except UnicodeEncodeError:
        return UNREADABLE
    return value


def read_number(value: Any) -> Any:
    """Return a number, also one given as text."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return float(value) if "_" not in value and len(value) < 400 else UNREADABLE
        except ValueError:
            return UNREADABLE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNREADABLE
    try:
        return float(value)
    except OverflowError:
        return UNREADABLE


def read_whole(value: Any) -> Any:
    """Return a 64-bit whole number, also one given as text."""
    if value is None:
        return None
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.removeprefix("-").isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        return UNREADABLE
    return value


def read_time(value: Any, api: ApiSettings) -> Any:
    """Return a time in UTC, read in the format of the settings.

    Numbers are accepted only when the settings name a unit: seconds and milliseconds look alike.
    """
    if value is None:
        return None
    if isinstance(value, datetime):  # of a user's mapping function
        return value.replace(tzinfo=value.tzinfo or api.zone).astimezone(UTC)
    try:
        if api.time_format in ("epoch_s", "epoch_ms"):
            return _from_epoch(value, 1 if api.time_format == "epoch_s" else 1000)
        if not isinstance(value, str):
            return UNREADABLE
        iso = api.time_format == "iso"
        moment = datetime.fromisoformat(value) if iso else datetime.strptime(value, api.time_format)
        return moment.replace(tzinfo=moment.tzinfo or api.zone).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return UNREADABLE


def _from_epoch(value: Any, parts: int) -> Any:
    number = read_number(value)
    if not isinstance(number, float) or not math.isfinite(number):
        return UNREADABLE
    return datetime.fromtimestamp(number / parts, UTC)

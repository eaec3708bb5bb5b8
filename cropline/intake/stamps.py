"""The stamp of an item that came from a file: where it was read, for its addresses, its times and its reader."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cropline.config.api import ApiSettings

STAMP = "source_file"


def stamp(name: str, folder: str, modified: datetime, row: int, api: ApiSettings) -> dict[str, Any]:
    """Return what an item of a file has besides its own fields.

    Its file's name, folder (URL) and time of the last change, and its row in it, from 1.
    """
    return {STAMP: {"name": name, "folder": folder, "modified": time_in(modified, api), "row": row}}


def time_in(moment: datetime, api: ApiSettings) -> str | float:
    """Return a time in the format of the settings, so that it is read like the item's own times."""
    if api.time_format in ("epoch_s", "epoch_ms"):
        return moment.timestamp() * (1 if api.time_format == "epoch_s" else 1000)
    if api.time_format == "iso":
        return moment.isoformat()
    return moment.astimezone(api.zone).strftime(api.time_format)


def base_of(item: dict[str, Any], api: ApiSettings) -> str:
    """Return the base of relative photo addresses: that of the settings, else the folder of the item's file."""
    if api.url_base or api.kind not in ("files", "bucket"):
        return api.url_base
    stamp = item.get(STAMP)
    folder = stamp.get("folder") if isinstance(stamp, dict) else None
    return folder if isinstance(folder, str) else ""

"""Rows and files that cannot be read."""

from __future__ import annotations

from typing import Any

from cropline.intake.json_bytes import LEFT_OUT

_KEPT = 2_000


class FileError(Exception):
    """A file cannot be read. Its text says why and is safe to show."""


def broken(why: str, text: str) -> dict[str, Any]:
    """Return an item that is quarantined with this reason, and what was read of it."""
    return {"problem": f"{LEFT_OUT}{why}", "text": text[:_KEPT]}

"""Functions of users that settings name: module:name, or an entry point. Nothing is imported here."""

from __future__ import annotations

import re

STEPS = "cropline.steps"
_USE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def find_named(use: str, group: str) -> tuple[str, str]:
    """Return module:name, and the package with its version for an entry point. Raise ValueError for another name."""
    if _USE.fullmatch(use):
        return use, ""
    from importlib import metadata

    found = list(metadata.entry_points(group=group, name=use))
    if not found:
        raise ValueError(f"{use!r} is neither module:name nor an entry point {group}")
    dist = found[0].dist
    return found[0].value, f"{dist.name} {dist.version}" if dist is not None else ""


def target_of(step: str) -> str:
    """Return the module:name of a profile's step. Raise ValueError for an unknown name."""
    return find_named(step, STEPS)[0]

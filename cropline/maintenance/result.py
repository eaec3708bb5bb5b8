"""What one part of maintenance removed, or in a dry run would remove."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CleanupResult:
    """``what`` names the objects. ``bytes`` is None when their size is not known."""

    what: str
    count: int
    bytes: int | None = None

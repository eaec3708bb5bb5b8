"""What one part of maintenance took away, or with a dry run would take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CleanupResult:
    """``what`` in words; how many, and how many bytes, as far as they are known."""

    what: str
    count: int
    bytes: int | None = None

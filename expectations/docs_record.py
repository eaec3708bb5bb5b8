"""What the index of Data Docs says of one run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """What the index says of one run. ``page``: its address, relative to the index."""

    run_name: str
    at: str  # 2026-11-22 08:40:00 UTC
    rows: int
    bad: int
    critical: tuple[str, ...]
    broken: tuple[tuple[str, int], ...]  # the warnings broken most
    page: str

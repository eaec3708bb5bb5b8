"""The record of one run in the index of Data Docs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """One run in the index. ``page``: its URL, relative to the index."""

    run_name: str
    at: str  # 2026-11-22 08:40:00 UTC
    rows: int
    bad: int
    critical: tuple[str, ...]
    broken: tuple[tuple[str, int], ...]  # the most broken warnings: name, count
    page: str

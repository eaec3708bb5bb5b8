"""Finds the crop to blame when a user's function hangs, dies or uses too much memory, and the work that is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fugue_jobs.pool.board import InHand
    from fugue_jobs.work import ImageWork

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4_096


def memory_mb(pid: int) -> int:
    """Return the MB of memory that a process holds; 0 where the system does not report it."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * _PAGE // 1_000_000


def without(work: ImageWork, hand: InHand) -> ImageWork:
    """Return the work without one crop."""
    order = work.orders[hand.order]
    boxes = frozenset(range(len(work.boxes))) if order.only is None else order.only
    orders = list(work.orders)
    orders[hand.order] = order._replace(only=boxes - {hand.box})
    return work._replace(orders=tuple(orders))

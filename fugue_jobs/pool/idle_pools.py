"""The pool of crop processes that is kept between batches, so that a flow's next batch finds running processes."""

from __future__ import annotations

import atexit
import os

from fugue_jobs.pool.assignment import Assignment
from fugue_jobs.pool.child import surroundings
from fugue_jobs.pool.crop_pool import CropPool

# At most one.
_idle: list[tuple[Assignment, int, CropPool]] = []


def borrow_pool(assignment: Assignment, size: int) -> CropPool:
    """Return a pool for this assignment: the idle one if it fits, else a new one. Then return_pool() or close it."""
    while idle := _taken():
        kept, kept_size, pool = idle
        if kept == assignment and kept_size == size and pool.surroundings == surroundings():
            return pool
        pool.close()
    return CropPool(assignment, size)


def return_pool(assignment: Assignment, size: int, pool: CropPool) -> None:
    """Keep an undamaged pool for the next batch."""
    close_idle_pools()
    if assignment.fetch.connections_per_host is not None:
        pool.rest()
    _idle.append((assignment, size, pool))


def close_idle_pools() -> None:
    """End all idle processes."""
    while idle := _taken():
        idle[2].close()


def _taken() -> tuple[Assignment, int, CropPool] | None:
    """Take an idle pool off the list. Dask workers may have threads: no two take the same one."""
    try:
        return _idle.pop()
    except IndexError:
        return None


def _forget_pools() -> None:
    """In a fork, leave the parent's processes to it."""
    for _, _, pool in _idle:
        pool.forget()
    _idle.clear()


atexit.register(close_idle_pools)
os.register_at_fork(after_in_child=_forget_pools)

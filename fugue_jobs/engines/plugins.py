"""Keeps Fugue from loading the plugins of other engines where a job needs none.

Before its first job Fugue imports the plugins of every engine that is installed: PySpark, Dask and Polars cost a flow's
first small batch more time than its crops. Fugue has no setting for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_thread = threading.local()


@contextmanager
def no_plugins() -> Iterator[None]:
    """Let Fugue load no plugins in this thread. The next job outside the block loads them."""
    _watch()
    _thread.loads_none = True
    try:
        yield
    finally:
        _thread.loads_none = False


@cache
def _watch() -> None:
    from triad.collections import function_wrapper
    from triad.utils import dispatcher, entry_points

    load = entry_points.load_entry_point  # once for each name

    def load_if_wanted(name: str) -> None:
        if not getattr(_thread, "loads_none", False):
            load(name)

    for caller in (dispatcher, function_wrapper):
        setattr(caller, "load_entry_point", load_if_wanted)  # noqa: B010 - mypy: they import it for themselves

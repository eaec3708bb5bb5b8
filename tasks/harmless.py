"""What only shows what was done never fails it: whatever is raised there becomes a warning in the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from cropline.core.scrub import one_line


@contextmanager
def harmless(what: str) -> Iterator[None]:
    """Around one thing that is drawn or shown, so that the others are shown all the same."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - Pillow, stores and Prefect's server raise what they like
        get_run_logger().warning("%s cannot be shown: %s", what, one_line(f"{type(error).__name__}: {error}"))

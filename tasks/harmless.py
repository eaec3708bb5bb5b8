"""Turns failures of what only displays results into warnings in the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from cropline.core.scrub import one_line


@contextmanager
def harmless(what: str) -> Iterator[None]:
    """Guard one display step, so that the others run when it fails."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - Pillow, stores and Prefect's server raise many types
        get_run_logger().warning("%s cannot be shown: %s", what, one_line(f"{type(error).__name__}: {error}"))

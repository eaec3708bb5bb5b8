"""Stopping a run at a chosen place and checking what is left, for the tests of kills.

The places are watched from outside: a Prefect hook between two steps, and Python's profiler, which sees each
call and return. Nothing of the product is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tests.integration.conftest import Workspace
from tests.integration.oracle import Ledger, Tally, books

POLL = "from flows.poll import poll; poll()"
# {function} has the side effect. "call" stops before it; "return" after it, as if the caller lost the reply.
AT = """
import os, signal, sys, threading
from flows.poll import poll
def watch(frame, event, arg):
    if event == "{event}" and frame.f_code.co_qualname == "{function}":
        sys.setprofile(None); threading.setprofile(None)
        os.kill(os.getpid(), signal.{signal})
threading.setprofile(watch)
sys.setprofile(watch)
poll()
"""


class Lost(RuntimeError):
    """The exception that ends a run."""


@contextmanager
def calling_at(function: str, event: str, call: Callable[[], None]) -> Iterator[None]:
    """In this thread, run ``call`` at the function's first call or return."""

    def watch(frame: FrameType, happened: str, _arg: Any) -> None:
        if happened == event and frame.f_code.co_qualname == function:
            sys.setprofile(None)
            call()

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


@contextmanager
def lost_at(function: str, event: str) -> Iterator[None]:
    """In this thread, raise Lost at the function's call or return."""

    def lose() -> None:
        raise Lost(f"{event} of {function}")

    with calling_at(function, event, lose):
        yield


def assert_same(workspace: Workspace, undisturbed: Ledger) -> None:
    """Assert that crops, catalogue, manifests and state are those of an undisturbed run."""
    end = books(workspace.place)
    tally = end.against(undisturbed)
    print(f"{tally} crops={end.crops.total()}")
    assert tally == Tally()
    assert end == undisturbed


def run_until_nothing_waits(workspace: Workspace) -> None:
    """Run at most one poll to finish what was left, and one that finds nothing."""
    workspace.poll()
    assert workspace.poll().nothing_new

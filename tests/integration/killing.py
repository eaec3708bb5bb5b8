"""Stopping a run at a chosen place and judging what is left, for the tests of kills.

The places are watched from outside: a Prefect hook that fires between two steps, and Python's profiler, which sees a
function begin and return. Nothing of the product is replaced.
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
# {function}: where a side effect happens; "call" is before it, "return" after it, when its reply is lost to the caller.
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
    """What a run meets that is to end by an exception."""


@contextmanager
def calling_at(function: str, event: str, call: Callable[[], None]) -> Iterator[None]:
    """In this thread, the function's first call or return waits until ``call`` has returned."""

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
    """In this thread, the function's call or return raises Lost."""

    def lose() -> None:
        raise Lost(f"{event} of {function}")

    with calling_at(function, event, lose):
        yield


def assert_same(workspace: Workspace, undisturbed: Ledger) -> None:
    """What lies there is what a run leaves that nobody disturbed: crops, catalogue, manifests and state."""
    end = books(workspace.place)
    tally = end.against(undisturbed)
    print(f"{tally} crops={end.crops.total()}")
    assert tally == Tally()
    assert end == undisturbed


def run_until_nothing_waits(workspace: Workspace) -> None:
    """At most one poll to finish what was left, and one that finds nothing."""
    workspace.poll()
    assert workspace.poll().nothing_new

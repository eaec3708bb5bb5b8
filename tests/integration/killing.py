"""Stopping a run at a chosen place and judging what is left, for the tests of kills.

The places are watched from outside: a Prefect hook that fires between two steps, and Python's profiler, which sees a
function begin and return. Nothing of the product is replaced.
"""

from __future__ import annotations

from typing import Any

from tests.integration.conftest import Workspace

# {function}: where a side effect happens; "call" is before it, "return" after it, when its reply is lost to the caller.
AT = """
import os, signal, sys, threading
from flows.poll import poll
class Lost(RuntimeError): pass
def watch(frame, event, arg):
    if event == "{event}" and frame.f_code.co_qualname == "{function}":
        sys.setprofile(None); threading.setprofile(None)
        if "{how}" == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        raise Lost("{event} of {function}")
threading.setprofile(watch)
sys.setprofile(watch)
poll()
"""


def assert_same(end: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    lost = set(undisturbed["objects"]) - set(end["objects"])
    orphaned = set(end["objects"]) - {row[5] for row in end["rows"]}
    doubled = len(end["rows"]) - len(set(end["rows"]))
    print(f"lost={len(lost)} duplicated={doubled} orphaned={len(orphaned)}")
    assert (len(lost), doubled, len(orphaned)) == (0, 0, 0)
    assert end == undisturbed


def run_until_nothing_waits(workspace: Workspace) -> None:
    """At most one poll to finish what was left, and one that finds nothing."""
    workspace.poll()
    assert workspace.poll().nothing_new

"""Stop the run before and after every side effect, by a kill, an exception or a lost reply; run again; compare."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.integration.conftest import Workspace
from tests.integration.killing import AT, assert_same, run_until_nothing_waits

MATRIX = [
    (function, event, how)
    for function in ("land", "State.register", "Catalogue.append", "State.commit", "Publisher.publish")
    for event, how in (("call", "SIGKILL"), ("return", "SIGKILL"), ("return", "exception"))
]


@pytest.mark.parametrize(("function", "event", "how"), MATRIX, ids=lambda value: str(value))
def test_stopped_at_a_side_effect_it_ends_as_if_undisturbed(
    workspace: Workspace, undisturbed: dict[str, Any], function: str, event: str, how: str
) -> None:
    stopped = workspace.child(AT.format(function=function, event=event, how=how))
    assert stopped.returncode == (-signal.SIGKILL if how == "SIGKILL" else 1), stopped.stderr[-2000:]
    run_until_nothing_waits(workspace)
    assert_same(workspace.end_state(), undisturbed)

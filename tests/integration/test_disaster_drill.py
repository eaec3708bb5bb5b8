"""The disaster drill of docs/production.md, as it is printed, against live cameras: what is lost comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.guide import shell_blocks
from tests.integration.conftest import Workspace

# Four recoveries with their commands, each a process.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

GUIDE = Path(__file__).parents[2] / "docs" / "production.md"


def run(workspace: Workspace, commands: str) -> str:
    """Run a block of the guide in a shell of its own; return what it printed."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OUT": str(workspace.folder),
    }
    done = subprocess.run(
        ["sh", "-e", "-c", commands], env=environment, capture_output=True, text=True, timeout=900, check=False, cwd=workspace.folder
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def test_each_recovery_of_the_drill_brings_back_every_crop(workspace: Workspace) -> None:
    workspace.poll()
    before, states = workspace.rows(), workspace.states()
    assert before
    state, catalogue, store, prefect = shell_blocks(GUIDE)
    identity = ("source", "image_id", "profile", "box_index", "status", "key", "sha256")

    def crops(rows: list[dict[str, object]]) -> list[tuple[object, ...]]:
        return sorted(tuple(row[name] for name in identity) for row in rows)

    for what, block in (("state", state), ("catalogue", catalogue), ("store", store)):
        said = run(workspace, block)
        print(what, said[-4000:])
        workspace.set(STATE__URL=f"sqlite:///{workspace.folder}/{what}-new.db")
        assert crops(workspace.rows()) == crops(before), what
        assert workspace.states() == states, what
        assert len(workspace.objects()) == sum(row["status"] == "written" for row in before), what
    said = run(workspace, prefect)
    assert "deployment poll" in said

"""Runs the command line: in a new process, in a fork, or in this process for tests with many commands in one workspace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.fork_server import ForkServer

_MAIN = "from cropline.cli import main; main()"
_WIDE = {"COLUMNS": "200"}


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def cropline(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    """Run a command as if it were typed in a wide terminal."""
    from cropline.cli import main

    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cropline", *arguments])
        patch.setenv("COLUMNS", "200")
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Ended(code, *capsys.readouterr())


def new_cropline(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a new Python, for tests of what it imports and what its stderr holds."""
    return subprocess.run(
        [sys.executable, "-c", _MAIN, *arguments],
        env=os.environ | _WIDE | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def forked_cropline(
    forks: ForkServer, cwd: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Do the same in a fork that has imported everything: a new Python takes seconds, and one of a kind will do."""
    begin = f"import os, sys; os.chdir({str(cwd)!r}); sys.argv = {['cropline', *arguments]!r}\n"
    run = forks.start(begin + _MAIN, os.environ | _WIDE | environment)
    return subprocess.CompletedProcess(arguments, run.wait(), run.stdout, run.stderr)

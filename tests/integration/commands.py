"""Runs the command line in this process through its entry point, for tests with many commands in one workspace."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest


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

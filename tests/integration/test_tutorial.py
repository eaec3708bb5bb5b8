"""Runs the commands and Python of docs/tutorial.md in order, against simulated cameras."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.integration.cameras import Cameras
from tests.integration.commands import cropline

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(?P<kind>sh|python)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
_ADDRESS, _TOKEN = "http://127.0.0.1:8765", "demo-token"


@pytest.mark.usefixtures("prefect_server")
def test_the_tutorial_runs_as_written(
    tmp_path: Path, steady_api: Cameras, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    assert _ADDRESS in text
    assert _TOKEN in text
    blocks = [(found["kind"], found["body"]) for found in _BLOCK.finditer(text)]
    assert [kind for kind, _ in blocks].count("sh") >= 3
    monkeypatch.chdir(tmp_path)
    shown = []
    for kind, body in blocks:
        body = body.replace(_ADDRESS, steady_api.base_url).replace(_TOKEN, steady_api.token)
        if kind == "python":
            exec(compile(body, str(TUTORIAL), "exec"), {"__name__": "tutorial"})
            shown.append(capsys.readouterr().out)
            continue
        for line in body.splitlines():
            words = shlex.split(line.replace("$PWD", str(tmp_path)))
            if words[0] == "export":
                name, _, value = words[1].partition("=")
                monkeypatch.setenv(name, value)
            else:
                ended = cropline(capsys, *words[1:])
                assert ended.code == 0, ended.err
                shown.append(ended.out)
    first, second, status, python = shown
    assert "crops written" in first
    assert re.search(r"seen before +\S* +\d+", second)
    assert re.search(r"backlog +0\n", status)
    assert re.search(r"\(\d+, \d+\) \w+", python), python

"""Runs the examples of docs/front-door.md in order, as a reader would."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.photos import drawn, encoded, photo_server

PAGE = Path(__file__).parents[3] / "docs" / "front-door.md"


def test_the_pages_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fugue_jobs.frame.plugin  # noqa: F401 - what the entry point loads after installation

    monkeypatch.setenv("CROPLINE_FETCH__ALLOW_LOOPBACK", "true")
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 5
    with photo_server() as server:
        server.photos["1.jpg"] = encoded(drawn(640, 480))
        names: dict[str, Any] = {"photos": server.url("").rstrip("/"), "folder": tmp_path, "__name__": "a_notebook"}
        for block in blocks:
            # A separate file: a function's source is read from it.
            file = tmp_path / "block.py"
            file.write_text(block)
            exec(compile(block, str(file), "exec"), names)

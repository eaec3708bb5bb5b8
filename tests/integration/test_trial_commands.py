"""``cropline try`` and ``cropline shadow``: what they print, and that they leave everything as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cropline.cli import trial
from cropline.core.errors import CroplineError
from tests.integration.conftest import Workspace

SMALL = json.dumps({"default": {"max_side": 48, "quality": 40}, "grey": {"format": "webp"}})


def test_they_compare_with_the_recipe_that_cut_the_photos_and_change_nothing(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CroplineError, match="CROPLINE_PROFILES has no profile 'sku'; it has default"):
        trial.try_profile("sku", 5, None, tmp_path)
    with pytest.raises(CroplineError, match="no photo was cropped by profile default yet"):
        trial.try_profile("default", 5, None, tmp_path)
    workspace.poll()
    before = workspace.end_state()
    workspace.set(PROFILES=SMALL)
    capsys.readouterr()

    trial.try_profile("default", 3, None, tmp_path / "try")
    said = capsys.readouterr().out
    assert "default, current" in said
    assert "of 3 photos" not in said
    assert "pairs of crops differ" in said
    assert "Nothing was stored" in said
    with Image.open(tmp_path / "try" / "sheet.png") as sheet:
        assert sheet.width > 1000

    trial.try_profile("grey", 2, None, tmp_path / "grey")
    assert "default, current" in capsys.readouterr().out, "a new profile is compared with another"
    assert workspace.end_state() == before

    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) > 1:
            raise KeyboardInterrupt
        workspace.api.control.advance(photos=2)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("CROPLINE_PROFILES")
            workspace.poll()

    with monkeypatch.context() as patch:
        patch.setattr(trial, "sleep", sleep)
        trial.shadow_profile("default", 1.0, 60, None, tmp_path / "shadow")
    said = capsys.readouterr().out
    new = len(workspace.rows()) - len(before["rows"])
    assert new > 0
    assert f"{new:,} boxes" in said
    assert (tmp_path / "shadow" / "sheet.png").is_file()

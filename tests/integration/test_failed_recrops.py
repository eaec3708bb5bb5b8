"""Good crops whose photos are no longer available stay, and every view says so. Run by the command line."""

from __future__ import annotations

import pytest

from tests.integration.commands import cropline
from tests.integration.conftest import Workspace
from tests.integration.oracle import books


def _words(shown: str) -> str:
    return " ".join(shown.replace("│", " ").split())


def test_a_recrop_that_fails_keeps_every_good_crop_and_is_told_everywhere(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.set(LINEAGE__TRANSPORT="none", STATE__BACKOFF_S="0.001")
    workspace.poll()
    good = books(workspace.place)
    boxes = good.crops.total()
    workspace.api.control.add_fault("image_missing")

    failed = cropline(capsys, "backfill", "--mode", "all", "--from", "manifests")
    assert failed.code == 2
    assert f"all {boxes} boxes failed ({boxes} keep their good crop)" in failed.err
    now = books(workspace.place)
    assert now.crops == good.crops
    assert now.rows == good.rows
    assert {row["recrop_reason"] for row in workspace.rows()} == {"http_404"}
    status = _words(cropline(capsys, "status").out)
    assert "6 ended with failures" in status
    assert "ended with failures http_404 6" in status
    assert f"6 0 {boxes} 0" in status, "written, failed and skipped of the last batch"
    plan = cropline(capsys, "plan").out
    assert "Every photo is cropped" not in plan
    assert "6 ended with failures (http_404 6). To try again: cropline replay --ended partial" in plan
    trace = cropline(capsys, "trace", next(iter(good.crops))[0]).out
    assert "could not be cut again" in trace
    assert "http_404" in trace

    workspace.api.control.clear_faults()
    assert cropline(capsys, "replay", "--ended", "partial").code == 0
    assert books(workspace.place).crops == good.crops
    assert {row["recrop_reason"] for row in workspace.rows()} == {None}
    assert "ended with failures" not in cropline(capsys, "status").out
    assert "Every photo is cropped" in cropline(capsys, "plan").out


def test_another_storage_or_api_is_refused_in_one_line_until_it_is_moved(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.set(LINEAGE__TRANSPORT="none")
    assert cropline(capsys, "poll").code == 0
    elsewhere = (workspace.folder / "elsewhere").as_uri()
    workspace.set(STORAGE__URL=elsewhere)
    refused = cropline(capsys, "poll")
    assert refused.code != 0
    assert f"belongs to the storage {(workspace.folder / 'output').as_uri()}" in refused.err
    assert "cropline move-state --storage" in refused.err
    assert "Traceback" not in refused.err
    for dry in ((), ("--dry-run",)):  # it would say that all is gone while the crops lie in the other storage
        refused = cropline(capsys, "forget", "--image", "no-such-photo", *dry)
        assert refused.code != 0
        assert "cropline move-state --storage" in refused.err
    assert cropline(capsys, "move-state").code != 0
    assert f"belongs to the storage {elsewhere} now" in cropline(capsys, "move-state", "--storage").out
    assert cropline(capsys, "poll").code == 0

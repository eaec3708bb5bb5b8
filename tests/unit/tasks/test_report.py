"""The report never fails a run: when one part cannot be drawn, stored or shown, the others still are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

import tasks.backlog
import tasks.harmless
import tasks.progress
import tasks.report
from cropline.config.settings import Settings
from cropline.core import storage
from cropline.core.errors import StorageError
from cropline.core.store_spec import StoreSpec
from cropline.pipeline.funnel import Funnel

SAMPLE = {
    "key": "crops/a.jpg",
    "shard": None,
    "store_name": "s",
    "store_id": "s",
    "camera_id": "c",
    "label": "l",
    "box_id": "b",
}
RAISED = [ValueError("bad"), SyntaxError("broken PNG file"), MemoryError(), StorageError("no space"), OSError(28, "full"), RecursionError()]  # fmt: skip


class Run:
    """The parts of a run that the report needs."""

    def __init__(self, folder: Path) -> None:
        self.spec = StoreSpec(folder.as_uri())
        self.settings = Settings(storage={"url": folder.as_uri()})
        self.funnel = Funnel(samples=[SAMPLE], failures=[FAILURE], images=1)
        self.context = SimpleNamespace(flow_name="poll", flow_run_id="run-1", run_name="poll", started_at=NOON)
        self.shown: dict[str, Any] = {}


NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FAILURE = {
    "reason": "http_404",
    "image_id": "i",
    "box_ids": ["b"],
    "detail": "",
    "store_id": "s",
    "camera_id": "c",
    "profile": "p",
}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Captured artifacts. A plain logger replaces Prefect's, which needs a server."""
    monkeypatch.setattr(tasks.harmless, "get_run_logger", lambda: logging.getLogger("test"))
    found: dict[str, Any] = {}

    def show(kind: str, key: str, data: Any, description: str, shown: Any = None) -> Any:
        found[key] = data
        return uuid4()

    monkeypatch.setattr(tasks.report, "show", show)
    return found


def _raise(error: Exception) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise error

    return raising


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("part", ["sample_sheet", "lineage_picture", "throughput_svg", "html_page", "write_record"])
def test_a_part_that_cannot_be_drawn_is_missing_and_the_rest_is_shown(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shown: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    part: str,
    error: Exception,
) -> None:
    monkeypatch.setattr(tasks.report, part, _raise(error))
    run = Run(tmp_path)
    assert tasks.report.report(run) is not None
    assert set(shown) == {"poll-summary", "poll-failures"}
    assert "cannot be shown: " in caplog.text
    assert run.funnel.report == (None if part == "html_page" else "reports/2026-11-22/poll-run-1.html")
    lies = {key.rpartition(".")[2] for key in storage.list_keys(StoreSpec(tmp_path.as_uri()), "reports")}
    assert lies == {"sample_sheet": {"html", "json"}, "html_page": {"jpg", "json"}, "write_record": {"jpg", "html"}}.get(part, {"jpg", "html", "json"})  # fmt: skip
    assert ("contact sheet" in shown["poll-summary"]) == (part != "sample_sheet"), "no link to what is not there"


def test_the_report_has_every_picture(tmp_path: Path, shown: dict[str, Any]) -> None:
    run = Run(tmp_path)
    run.funnel.throughput[1_764_000_000] = 3
    assert tasks.report.report(run) is not None
    page = (tmp_path / "reports" / "2026-11-22" / "poll-run-1.html").read_text()
    for picture in ("contact sheet", "throughput over time", "from the camera API to crops"):
        assert f"![{picture}](data:image/" in shown["poll-summary"]
        assert f'alt="{picture}' in page


@pytest.mark.parametrize("part", ["show", "summarise", "places"])
def test_nothing_that_the_report_meets_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown: dict[str, Any], caplog: pytest.LogCaptureFixture, part: str
) -> None:
    monkeypatch.setattr(tasks.report, part, _raise(ConnectionError("the server is away")))
    assert tasks.report.report(Run(tmp_path)) is None
    assert "the report cannot be shown: ConnectionError: the server is away" in caplog.text


def test_a_store_that_takes_nothing_any_more_fails_no_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown: dict[str, Any]
) -> None:
    monkeypatch.setattr(storage, "write", _raise(StorageError("cannot write")))
    assert tasks.report.report(Run(tmp_path)) is not None
    assert "![contact sheet]" in shown["poll-summary"], "it was drawn, and the artifact holds it"
    assert "reports/2026-11-22/poll-run-1.jpg" not in shown["poll-summary"]


def test_being_stopped_is_no_failure_to_be_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown: dict[str, Any]
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tasks.report, "sample_sheet", stop)
    with pytest.raises(KeyboardInterrupt):
        tasks.report.report(Run(tmp_path))

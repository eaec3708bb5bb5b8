"""The command line: what it shows, and how it ends on errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.integration.commands import forked_cropline, new_cropline
from tests.integration.conftest import Workspace, after_a_poll, picture
from tests.integration.fork_server import ForkServer


def _forked(workspace: Workspace) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs a command where the tests do not judge what its libraries write to stderr."""
    return partial(forked_cropline, workspace.forks, workspace.folder)


WRONG = [
    ("poll", {"CROPLINE_API__URL": "cameras.example"}, "CROPLINE_API__URL: must be http(s)://"),
    ("poll", {"CROPLINE_API__URL": ""}, "CROPLINE_API__URL: no image API is set"),
    ("poll", {"CROPLINE_ENGINE__KIND": "sparkk"}, "CROPLINE_ENGINE__KIND: "),
    ("process", {"CROPLINE_NOPE__X": "1"}, "CROPLINE_NOPE__X: unknown setting"),
    ("process", {"CROPLINE_STORAGE__URL": "file:///proc/nope"}, "cannot use file:///proc/nope"),
    ("process", {"CROPLINE_STATE__URL": "sqlite:////proc/nope/state.db"}, "/proc/nope"),
    ("process", {"PREFECT_API_URL": "http://127.0.0.1:1/api"}, "Failed to reach API at http://127.0.0.1:1/api/; start"),
    ("status", {"CROPLINE_STATE__URL": "sqlite:///state.db?timeout=soon"}, "sqlite:///state.db?timeout=soon: "),
    ("status", {"CROPLINE_STATE__URL": "postgresql+psycopg://me:canary@127.0.0.1:1/x"}, "127.0.0.1"),
]


@pytest.mark.parametrize(("command", "environment", "says"), WRONG, ids=[f"{c}-{next(iter(e))}" for c, e, _ in WRONG])
def test_what_is_wrong_is_one_clear_line_and_exit_code_2(
    tmp_path: Path, command: str, environment: dict[str, str], says: str
) -> None:
    base = {
        "CROPLINE_API__URL": "http://127.0.0.1:1",
        "CROPLINE_STORAGE__URL": (tmp_path / "output").as_uri(),
        "CROPLINE_STATE__URL": f"sqlite:///{tmp_path / 'state.db'}",
    }
    ended = new_cropline(tmp_path, command, **base | environment)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert says in ended.stderr
    assert "canary" not in ended.stderr


def test_a_folder_that_is_no_demo_is_left_alone(forks: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    ended = forked_cropline(forks, tmp_path, "demo", "--out", str(tmp_path))
    assert ended.returncode == 2
    assert "holds files that are not from a demo" in ended.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_an_api_that_is_down_fails_in_one_line(workspace: Workspace) -> None:
    ended = new_cropline(workspace.folder, "poll", CROPLINE_API__URL="http://127.0.0.1:1", CROPLINE_API__RETRIES="0")
    assert ended.returncode == 2
    assert ended.stderr.startswith(
        "cropline: api_unavailable: the image API http://127.0.0.1:1/v1/images cannot be reached"
    )
    assert "Traceback" not in ended.stderr


def test_poll_status_trace_and_show_agree(workspace: Workspace) -> None:
    cropline = _forked(workspace)
    polled = cropline("poll")
    assert polled.returncode == 0, polled.stderr
    rows = workspace.rows()
    assert f"{len(rows):,}" in polled.stdout

    status = cropline("status").stdout
    assert "6 done" in status
    assert rows[0]["batch_id"] in status

    row = next(row for row in rows if row["status"] == "written")
    uri = workspace.settings.storage.spec.uri(row["key"])
    for name, run in ((row["key"], partial(new_cropline, workspace.folder)), (uri, cropline)):
        trace = run("trace", name).stdout
        for fact in (
            row["key"],
            row["image_id"],
            row["box_id"],
            row["batch_id"],
            row["flow_run"],
            row["manifest"],
            "quality=90",
        ):
            assert fact in trace, fact
        assert "sig=" not in trace

    out = workspace.folder / "shown.jpg"
    shown = cropline("show", row["image_id"], "--out", str(out))
    assert shown.returncode == 0, shown.stderr
    assert picture(out.read_bytes()).width >= 1400


def test_an_unknown_crop_or_image_is_named(workspace: Workspace) -> None:
    for command in ("trace", "show"):
        ended = _forked(workspace)(command, "nothing-like-it")
        assert ended.returncode == 2
        assert "nothing-like-it" in ended.stderr


@after_a_poll()
def test_backfill_forget_and_export_report_plans_and_results(workspace: Workspace) -> None:
    here, cropline = workspace.folder, _forked(workspace)
    rows = workspace.rows()
    assert "by the current profiles" in cropline("plan").stdout
    planned = cropline("plan", CROPLINE_PROFILES='{"default": {"quality": 80}, "new": {"output": "shards"}}')
    lines = {line.split()[0]: line for line in planned.stdout.splitlines() if line}
    assert "quality 90 -> 80" in lines["default"]
    assert [cell.strip() for cell in lines["default"].split("│")][-2:] == [f"{len(rows):,}"] * 2
    assert "6 photos without this profile" in lines["new"]
    assert [cell.strip() for cell in lines["new"].split("│")][-2:] == [f"{len(rows):,}", "2"]
    assert "cropline backfill --from manifests --profile default --profile new" in planned.stdout

    gone = rows[0]["image_id"]
    estimated = cropline("forget", "--image", gone, "--dry-run")
    mine = sum(row["image_id"] == gone for row in rows)
    assert (
        f"{mine:,} objects and {mine:,} catalogue rows of 1 photos would be removed. Nothing was done."
        in estimated.stdout
    )
    assert workspace.rows() == rows
    done = cropline("forget", "--image", gone)
    assert (done.returncode, "will not be cropped again" in done.stdout) == (0, True), done.stderr
    assert {row["image_id"] for row in workspace.rows()} == {row["image_id"] for row in rows} - {gone}
    assert "Nothing of them was found" not in estimated.stdout + done.stdout
    # A second time, as with a mistyped id.
    assert "Nothing of them was found here." in cropline("forget", "--image", gone, "--dry-run").stdout
    for wrong in (["forget"], ["forget", "--image", "a", "--store", "b"], ["forget", "--before", "yesterday"]):
        assert cropline(*wrong).returncode == 2

    out = here / "out"
    exported = cropline("export", str(out), "--where", f"image_id <> '{rows[-1]['image_id']}'", "--limit", "5")
    assert exported.stdout.startswith("5 crops, "), exported.stderr
    assert len(list((out / "images").rglob("*.jpg"))) == 5
    nothing = cropline("export", str(here / "none"), "--where", "store_id = 'no such'")
    assert (nothing.returncode, "No written crop matches" in nothing.stdout) == (0, True), nothing.stderr
    refused = new_cropline(here, "export", str(here / "no"), "--where", "1 = 1) --")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("cropline: export: --where: ")


FAILED_SCRIPT = """
import threading, time
import cropline.cli
from cropline.core.errors import EngineError

def held(error):
    while True:  # as Prefect holds the error of a flow until Python is gone
        time.sleep(60)

def poll():
    import duckdb
    try:
        duckdb.sql("SELECT nope FROM (SELECT 1 AS a)")
    except Exception as error:
        failed = EngineError("the script does not run")
        failed.__cause__ = error
        threading.Thread(target=held, args=(failed,), daemon=True).start()
        raise failed

cropline.cli.app = poll
cropline.cli.main()
"""


def test_a_failed_script_ends_with_its_line_and_no_complaint_of_duckdbs_bindings() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILED_SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (2, "cropline: engine: the script does not run\n")

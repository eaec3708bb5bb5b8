"""cropline quarantine: list, show and replay, as a user runs them, on what real polls quarantined."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from typer.testing import CliRunner

from cropline.cli import app
from cropline.core.errors import NothingCameThrough
from cropline.intake.quarantine import QuarantineFilter, find
from tests.integration.conftest import Workspace, after_a_poll, all_boxes


def _cropline(*arguments: str) -> str:
    ended = CliRunner().invoke(app, ["quarantine", *arguments], env={"COLUMNS": "250"}, catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def _rows(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _cropline("show", "--json", *arguments).splitlines()]


@all_boxes
def test_bad_rows_are_listed_shown_replayed_and_marked(workspace: Workspace) -> None:
    assert "Nothing in quarantine." in _cropline("list")
    listed = sorted(workspace.api.control.images(), key=lambda row: row["id"])
    inverted, mended = (row["id"] for row in listed[:2])
    workspace.api.control.add_fault("row_inverted_box", image_id=inverted)
    workspace.api.control.add_fault("row_bad_timestamp", image_id=mended)
    most = min(len(row["boxes"]) for row in listed[2:])
    few = {row["id"] for row in listed if len(row["boxes"]) > most} - {inverted, mended}
    assert few, "some photos have too many"
    workspace.set(EXPECTATIONS__MAX_BOXES=str(most), EXPECTATIONS__MAX_QUARANTINED_FRACTION="1")
    workspace.poll()

    rows = _rows()
    broken = {row["image_id"]: set(row["broken"]) for row in rows}
    assert {name for name, rules in broken.items() if "boxes_not_too_many" in rules} >= few
    assert "boxes_ordered" in broken[inverted]
    assert {row["status"] for row in rows} == {"waiting"}
    said = _cropline("list")
    assert rows[0]["manifest"] in said
    assert "No box has its sides exchanged" in said
    assert "docs/runs/" in said
    assert [row["image_id"] for row in _rows("--rule", "boxes_ordered")] == [inverted]
    assert _rows("--rule", "boxes_ordered", "--store", "nowhere") == []
    assert "breaks    boxes_ordered" in _cropline("show", inverted)

    # Some are repaired by a changed rule; another is repaired at the source and is announced again.
    workspace.api.control.clear_faults()
    workspace.set(EXPECTATIONS__MAX_BOXES="1000")
    assert "Nothing was done." in _cropline("replay", "--dry-run")
    assert {row["status"] for row in _rows()} == {"waiting"}, "a dry run marks nothing"
    _cropline("replay", "--rule", "boxes_not_too_many")
    states = workspace.states()
    assert {name for name, state in states.items() if state == "done"} >= few
    assert states[inverted] == "quarantined", "still bad"
    after = {row["image_id"]: row for row in _rows()}
    assert len(after) == len(rows), "nothing leaves"
    assert {name for name, row in after.items() if row["status"] == "replayed"} == few
    (replay,) = after[next(iter(few))]["replays"]
    assert replay["profiles"] == ["default"]
    assert "by flow run" in _cropline("show", next(iter(few)))

    done = workspace.rows()
    _cropline("replay", "--rule", "boxes_not_too_many")
    assert workspace.rows() == done, "what was replayed is not replayed again"
    workspace.poll()
    assert set(workspace.states().values()) == {"done"}
    assert {row["status"] for row in _rows()} == {"replayed", "superseded"}
    assert {row["image_id"] for row in _rows("--status", "superseded")} == set(broken) - few


@after_a_poll()
def test_a_good_photo_whose_newer_version_was_bad_gets_it_by_a_replay(workspace: Workspace) -> None:
    """The state has the old version as done and does not know the bad one: only quarantine does."""
    changed = workspace.api.control.change_etag(workspace.api.control.images()[0]["id"])["id"]
    workspace.set(EXPECTATIONS__MAX_BOXES="1", EXPECTATIONS__MAX_QUARANTINED_FRACTION="1")
    assert "look at CROPLINE_EXPECTATIONS__MAX_BOXES" in workspace.poll_in_vain()
    (row,) = _rows()
    assert (row["image_id"], row["status"]) == (changed, "waiting")
    assert workspace.states()[changed] == "done"
    before = {row["fingerprint"] for row in workspace.rows() if row["image_id"] == changed}
    workspace.set(EXPECTATIONS__MAX_BOXES="1000")
    _cropline("replay", "--manifest", row["manifest"])
    after = {row["fingerprint"] for row in workspace.rows() if row["image_id"] == changed}
    assert len(after) == 1
    assert before != after
    assert [row["status"] for row in _rows()] == ["replayed"]


def test_an_unknown_rule_is_a_usage_error(workspace: Workspace) -> None:
    ended = CliRunner().invoke(app, ["quarantine", "list", "--rule", "box_ordered"])
    assert ended.exit_code == 2
    assert "boxes_ordered" in ended.output


def test_what_is_shown_holds_no_signature(workspace: Workspace) -> None:
    workspace.set(EXPECTATIONS__MAX_BOXES="1", EXPECTATIONS__MAX_QUARANTINED_FRACTION="1")
    assert "look at CROPLINE_EXPECTATIONS__MAX_BOXES" in workspace.poll_in_vain()
    entries = list(find(workspace.settings.storage.spec, "cams", QuarantineFilter()))
    assert entries
    assert all("?" not in entry.row["url"] or entry.row["url"].endswith("?***") for entry in entries)


def test_a_repaired_mapping_repairs_quarantined_rows(workspace: Workspace) -> None:
    """The rows were mapped wrongly. Replay maps their items again, also those without id, store or time."""
    from flows.replay import replay

    workspace.set(API__FIELDS__CAPTURED_AT="taken.at", API__FIELDS__STORE_ID="shop", API__FIELDS__URL="href")
    said = workspace.poll_in_vain()
    assert "all 6 rows are bad; most of them" in said
    assert "look at CROPLINE_API__FIELDS__" in said
    with pytest.raises(NothingCameThrough, match="look at CROPLINE_API__FIELDS__"):
        replay(ended=["quarantined"])  # still bad: replay must not report success
    workspace.set(API__FIELDS__CAPTURED_AT="captured_at", API__FIELDS__STORE_ID="store_id", API__FIELDS__URL="url")
    store = workspace.api.control.images()[0]["store_id"]
    _cropline("replay", "--store", store)
    listed = {row["id"]: row for row in workspace.api.control.images()}
    of_store = {name for name, row in listed.items() if row["store_id"] == store}
    assert {row["image_id"] for row in workspace.rows()} == of_store
    said = _cropline("replay")
    boxes = Counter((name, box["id"]) for name, row in listed.items() for box in row["boxes"])
    rows = workspace.rows()
    assert Counter((row["image_id"], row["box_id"]) for row in rows) == boxes
    assert {row["status"] for row in rows} == {"written"}
    assert {(row["image_id"], row["store_id"]) for row in rows} == {(n, row["store_id"]) for n, row in listed.items()}
    assert {row["status"] for row in _rows()} == {"replayed"}
    assert replay(ended=["quarantined"]).nothing_new, "what was replayed is not replayed again"

"""Backfills and replays on a live API: what they plan, what they do, and what they do not touch."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from cropline.backfill.estimate import Estimate
from cropline.backfill.request import Limits, Photos
from cropline.core.errors import NothingCameThrough, SettingsError
from cropline.pipeline.funnel import Funnel
from tests.integration.conftest import Workspace, after_a_poll, artifact_text


def _listed(workspace: Workspace) -> list[dict[str, Any]]:
    return sorted(workspace.api.control.images(), key=lambda row: row["captured_at"])


def _moment(row: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(row["captured_at"])


def _backfill(**parameters: Any) -> Funnel:
    from flows.backfill import backfill

    answer = backfill(**{"photos": Photos()} | parameters)
    assert isinstance(answer, Funnel)
    return answer


def _replay(**parameters: Any) -> Funnel:
    from flows.replay import replay

    answer = replay(**parameters)
    assert isinstance(answer, Funnel)
    return answer


def _foreseen(**parameters: Any) -> Estimate:
    from flows.replay import replay

    answer = replay(**parameters)
    assert isinstance(answer, Estimate)
    return answer


def test_a_backfill_crops_its_window_and_leaves_the_cursor(workspace: Workspace) -> None:
    listed = _listed(workspace)
    window = Photos(since=_moment(listed[1]), until=_moment(listed[4]))
    funnel = _backfill(photos=window)
    wanted = {row["id"] for row in listed[1:4]}
    assert {row["image_id"] for row in workspace.rows()} == wanted
    assert workspace.api.control.counts() == dict.fromkeys(wanted, 1)
    assert funnel.written == sum(len(row["boxes"]) for row in listed[1:4])
    assert workspace.end_state()["cursor"] is None
    assert workspace.poll().images == 3, "the poll finds the others"
    assert set(workspace.states().values()) == {"done"}


def test_a_dry_run_says_what_it_would_do_and_does_nothing(workspace: Workspace) -> None:
    workspace.set(BATCH__IMAGES="2")
    before = workspace.end_state()
    listed = _listed(workspace)
    from flows.backfill import backfill

    backfill(photos=Photos(), dry_run=True, limits=Limits(max_batches=2))
    after = workspace.end_state()
    assert {name: after[name] for name in before if name != "unpublished"} == {
        name: before[name] for name in before if name != "unpublished"
    }
    assert workspace.api.control.counts() == {}
    text = artifact_text("backfill-plan")
    boxes = sum(len(row["boxes"]) for row in listed[2:])
    assert f"{boxes:,} crops from 4 photos of 6 wanted photos" in text
    assert "batches: 2 of 2 are spent" in text
    real = _backfill(limits=Limits(max_batches=2))
    assert (real.images, real.boxes) == (4, boxes), "the dry run's numbers"
    assert {row["image_id"] for row in workspace.rows()} == {row["id"] for row in listed[2:]}, "newest first"


def test_a_limit_stops_cleanly_and_the_next_run_continues_with_its_own_limits(workspace: Workspace) -> None:
    workspace.set(BATCH__IMAGES="2")
    listed = _listed(workspace)
    assert _backfill(limits=Limits(images=3), order="oldest").images == 3
    assert {row["image_id"] for row in workspace.rows()} == {row["id"] for row in listed[:3]}
    assert "stopped by its limit: images: 3 of 3 are spent" in artifact_text("backfill-days")
    assert _backfill(order="oldest").images == 3
    assert set(workspace.api.control.counts().values()) == {1}, "finished work is not repeated"
    assert Counter(workspace.states().values()) == {"done": 6}


@pytest.mark.parametrize("at_once", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_an_interrupted_backfill_of_everything_resumes_with_the_rest(workspace: Workspace, at_once: int) -> None:
    workspace.set(BATCH__IMAGES="2")
    workspace.poll()
    workspace.api.control.clear_log()
    _backfill(mode="all", limits=Limits(max_batches=1))
    _backfill(mode="all", limits=Limits(concurrency=at_once))
    assert workspace.api.control.counts() == {row["id"]: 1 for row in _listed(workspace)}
    assert len(workspace.rows()) == len(workspace.objects()), "the same keys"
    _backfill(mode="all")
    assert set(workspace.api.control.counts().values()) == {2}, "it was at its end, so the next begins anew"


@after_a_poll()
def test_a_new_recipe_is_backfilled_from_the_manifests_without_the_api(workspace: Workspace) -> None:
    workspace.set(PROFILES='{"default": {}, "thumb": {"max_side": 64}}')
    workspace.api.control.clear_log()
    funnel = _backfill(announced="manifests")
    assert Counter(row["profile"] for row in workspace.rows()) == {
        "default": funnel.written,
        "thumb": funnel.written,
    }
    assert not [entry for entry in workspace.api.control.log() if entry["path"].startswith("/v1")]


@after_a_poll()
def test_a_lost_state_is_rebuilt_from_the_manifests(workspace: Workspace) -> None:
    before = workspace.objects()
    workspace.set(STATE__URL=f"sqlite:///{workspace.folder / 'other.db'}")
    _backfill(announced="manifests")
    assert workspace.objects() == before
    assert set(workspace.states().values()) == {"done"}


def test_only_what_failed_is_done_again(workspace: Workspace) -> None:
    first, second = (row["id"] for row in _listed(workspace)[:2])
    workspace.api.control.add_fault("image_500", image_id=first)
    workspace.poll()
    workspace.api.control.clear_faults()
    workspace.api.control.clear_log()
    assert workspace.states()[first] == "failed"
    assert _backfill(mode="missing").batches == 0
    assert _backfill(mode="failed").images == 1
    assert workspace.api.control.counts() == {first: 1}
    assert workspace.states()[second] == "done"


def test_stores_cameras_and_a_window_of_days_select(workspace: Workspace) -> None:
    listed = _listed(workspace)
    camera, store = listed[0]["camera_id"], listed[-1]["store_id"]
    _backfill(photos=Photos(cameras=[camera]))
    assert {row["camera_id"] for row in workspace.rows()} == {camera}
    _backfill(photos=Photos(stores=[store], since=_moment(listed[0]) - timedelta(days=1)))
    assert set(workspace.states()) == {
        row["id"] for row in listed if camera == row["camera_id"] or store == row["store_id"]
    }


def test_bad_rows_of_a_backfill_are_quarantined_with_their_reasons(workspace: Workspace) -> None:
    bad = _listed(workspace)[0]["id"]
    workspace.api.control.add_fault("row_inverted_box", image_id=bad)
    _backfill()
    assert Counter(workspace.states().values()) == {"done": 5, "quarantined": 1}
    assert len(workspace.end_state()["quarantine"]) == 1
    _backfill()
    assert len(workspace.end_state()["quarantine"]) == 1, "known to be bad"


def test_a_replay_requeues_failed_work_items_and_never_succeeded_ones(workspace: Workspace) -> None:
    first, second = (row["id"] for row in _listed(workspace)[:2])
    workspace.api.control.add_fault("image_500", image_id=first)
    workspace.api.control.add_fault("image_missing", image_id=second)
    workspace.poll()
    workspace.api.control.clear_faults()
    workspace.api.control.clear_log()
    assert _replay(reasons=["timeout"]).batches == 0
    for wrong in ({"reasons": ["http_50x"]}, {"photos": Photos(profiles=["defalt"])}):
        with pytest.raises(
            SettingsError, match=r"no (reason http_50x|profile defalt)\b.*; there are .*(http_5xx|default)"
        ):
            _replay(**wrong)
    assert _foreseen(dry_run=True).cost.images == 1
    assert _replay().images == 1
    assert workspace.api.control.counts() == {first: 1}
    assert _replay(ended=["partial"], reasons=["http_404"]).images == 1
    assert workspace.api.control.counts() == {first: 1, second: 1}
    assert Counter(row["status"] for row in workspace.rows()) == {"written": len(workspace.rows())}


def test_a_replay_takes_rows_out_of_quarantine_that_pass_the_current_rules(workspace: Workspace) -> None:
    workspace.set(EXPECTATIONS__MAX_BOXES="1", EXPECTATIONS__MAX_QUARANTINED_FRACTION="1")
    workspace.poll_in_vain()
    assert set(workspace.states().values()) == {"quarantined"}
    with pytest.raises(NothingCameThrough, match="look at CROPLINE_EXPECTATIONS__MAX_BOXES"):
        _replay(ended=["quarantined"])
    workspace.set(EXPECTATIONS__MAX_BOXES="1000")
    assert _replay(ended=["quarantined"]).images == 6
    assert set(workspace.states().values()) == {"done"}


def test_maintenance_changes_no_row_and_a_dry_run_changes_nothing(workspace: Workspace) -> None:
    from flows.maintain import maintain

    assert maintain()[0] is None, "no catalogue yet"
    workspace.set(BATCH__IMAGES="1")
    workspace.poll()
    rows = workspace.rows()
    dry, _ = maintain(dry_run=True)
    assert dry is not None
    done, _ = maintain()
    assert done is not None
    assert (dry.files_before, dry.files_after) == (done.files_before, done.files_before)
    assert done.files_after < done.files_before
    assert workspace.rows() == rows

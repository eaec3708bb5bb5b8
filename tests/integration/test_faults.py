"""Each fault of the simulated API ends as designed; the run survives it and the other images are done."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from cropline.core import storage
from cropline.core.errors import ApiRefused, ApiUnavailable, ManifestRejected
from cropline.pipeline.funnel import Funnel
from cropline.state import State
from tests.integration.conftest import Workspace, after_a_poll

# fault -> (reason of its boxes, whether it is tried again)
IMAGE_FAULTS = {
    "image_429": ("http_429", True),
    "image_500": ("http_5xx", True),
    "image_slow_drip": ("timeout", True),
    "image_truncated": ("truncated", True),
    "image_truncated_chunked": ("truncated", True),
    "image_truncated_silently": ("truncated", True),
    "image_missing": ("http_404", False),
    "image_html": ("not_a_picture", False),
    "image_corrupt_scan": ("hash_mismatch", False),
    "image_corrupt_header": ("hash_mismatch", False),
    "broken_original": ("not_a_picture", False),
}
ROW_FAULTS = {
    "row_without_id": "image_id_present",
    "row_not_an_object": "fields_readable",
    "row_text_coordinate": "boxes_readable",
    "row_nan_coordinate": "boxes_finite",
    "row_null_boxes": "boxes_present",
    "row_inverted_box": "boxes_ordered",
    "row_bad_timestamp": "fields_readable",
    "row_file_url": "url_scheme",
}


@pytest.mark.parametrize("faults", [list(IMAGE_FAULTS)[:6], list(IMAGE_FAULTS)[6:]], ids=["passing", "lasting"])
def test_a_bad_photo_fails_alone_with_its_reason(workspace: Workspace, faults: list[str]) -> None:
    if "image_slow_drip" in faults:
        workspace.set(FETCH__TIMEOUT_S="10")
    ids = [row["id"] for row in workspace.api.control.images()]
    struck = dict(zip(faults, ids, strict=False))
    for fault, image_id in struck.items():
        workspace.api.control.add_fault(fault, image_id=image_id, seconds=2 if fault.endswith("429") else None)
    lost = len(struck) == len(ids)
    if lost:
        assert "boxes failed; most of them" in workspace.poll_in_vain(), "all failed: that must not look like success"
    else:
        funnel = workspace.poll()
    reasons: dict[str, Counter[str]] = {}
    for row in workspace.rows():
        reasons.setdefault(row["image_id"], Counter())[row["reason"] or row["status"]] += 1
    boxes = {row["id"]: len(row["boxes"]) for row in workspace.api.control.images()}
    states = workspace.states()
    for fault, image_id in struck.items():
        reason, again = IMAGE_FAULTS[fault]
        assert reasons[image_id] == {reason: boxes[image_id]}, fault
        assert states[image_id] == ("failed" if again else "done"), fault
    for image_id in set(ids) - set(struck.values()):
        assert reasons[image_id] == {"written": boxes[image_id]}
        assert states[image_id] == "done"
    if not lost:
        assert funnel.boxes == sum(boxes.values())
        assert funnel.failed == sum(boxes[image_id] for image_id in struck.values())


def test_a_photo_that_failed_is_done_when_its_host_recovers(workspace: Workspace) -> None:
    workspace.set(STATE__BACKOFF_S="0.001")
    image_id = workspace.api.control.images()[0]["id"]
    workspace.api.control.add_fault("image_500", image_id=image_id, times=1)
    assert workspace.poll().retrying > 0
    workspace.process()
    assert set(workspace.states().values()) == {"done"}
    rows = workspace.rows()
    assert {row["status"] for row in rows} == {"written"}, "the failed rows are superseded by the written ones"
    assert len(rows) == sum(len(row["boxes"]) for row in workspace.api.control.images())


def test_a_photo_that_keeps_failing_is_dead_after_its_attempts(workspace: Workspace) -> None:
    workspace.set(STATE__BACKOFF_S="0.001", STATE__MAX_ATTEMPTS="2")
    image_id = workspace.api.control.images()[0]["id"]
    workspace.api.control.add_fault("image_500", image_id=image_id)
    workspace.poll()
    workspace.process()
    assert workspace.states()[image_id] == "dead"
    assert workspace.process().nothing_new
    workspace.api.control.clear_faults()
    with State.open(workspace.settings.state) as state:
        assert state.requeue(states=["dead"]) == 1
    workspace.process()
    assert set(workspace.states().values()) == {"done"}


def test_a_bad_row_is_quarantined_with_its_reason_and_no_good_row_with_it(workspace: Workspace) -> None:
    import io

    import pyarrow.parquet as pq

    added, _ = workspace.api.control.advance(photos=8)
    struck = dict(zip(ROW_FAULTS, added, strict=False))
    for fault, image_id in struck.items():
        workspace.api.control.add_fault(fault, image_id=image_id)
    workspace.set(EXPECTATIONS__MAX_QUARANTINED_FRACTION="0.9")
    funnel = workspace.poll()
    assert funnel.quarantined == len(struck)
    assert funnel.quarantine is not None
    spec = workspace.settings.storage.spec
    quarantine = pq.read_table(io.BytesIO(storage.read(spec, funnel.quarantine))).to_pylist()
    broken = Counter(name for row in quarantine for name in row["broken"])
    for fault, expectation in ROW_FAULTS.items():
        assert broken[expectation] > 0, (fault, dict(broken))
    good = {row["id"] for row in workspace.api.control.images()} - set(struck.values())
    assert {row["image_id"] for row in workspace.rows()} == good


def test_the_next_poll_takes_a_corrected_row_out_of_quarantine(workspace: Workspace) -> None:
    image_id = workspace.api.control.images()[0]["id"]
    workspace.api.control.add_fault("row_inverted_box", image_id=image_id)
    workspace.poll()
    assert workspace.states()[image_id] == "quarantined"
    workspace.api.control.clear_faults()
    workspace.poll()
    assert workspace.states()[image_id] == "done"


def test_a_row_announced_twice_is_cropped_once(workspace: Workspace) -> None:
    image_id = workspace.api.control.images()[0]["id"]
    workspace.api.control.add_fault("row_duplicate", image_id=image_id)
    funnel = workspace.poll()
    assert (funnel.polled, funnel.repeated, funnel.images) == (7, 1, 6)
    assert workspace.api.control.counts()[image_id] == 1


def test_too_many_bad_rows_fail_the_run_with_nothing_registered(workspace: Workspace) -> None:
    workspace.set(EXPECTATIONS__MIN_ROWS_FOR_BUDGET="1", EXPECTATIONS__MAX_QUARANTINED_FRACTION="0.2")
    for row in workspace.api.control.images()[:2]:
        workspace.api.control.add_fault("row_null_boxes", image_id=row["id"])
    with pytest.raises(ManifestRejected, match="2 of 6 rows are bad"):
        workspace.poll()
    end = workspace.end_state()
    assert (end["rows"], end["states"], end["cursor"], end["objects"]) == ([], {}, None, {})
    workspace.api.control.clear_faults()
    workspace.poll()
    assert set(workspace.states().values()) == {"done"}


@pytest.mark.parametrize(
    ("fault", "error"),
    [("listing_500", ApiUnavailable), ("listing_html", ApiRefused), ("listing_cursor_loop", ApiRefused)],
)
def test_a_broken_listing_fails_the_poll_and_the_next_reads_it_all(
    workspace: Workspace, fault: str, error: type[Exception]
) -> None:
    workspace.set(API__RETRIES="0")
    workspace.api.control.add_fault(fault)
    with pytest.raises(error):
        workspace.poll()
    assert workspace.end_state()["cursor"] is None
    workspace.api.control.clear_faults()
    assert workspace.poll().images == 6


def test_the_backlog_is_processed_while_the_api_is_down(workspace: Workspace) -> None:
    workspace.set(STATE__BACKOFF_S="0.001", API__RETRIES="0")
    image_id = workspace.api.control.images()[0]["id"]
    workspace.api.control.add_fault("image_500", image_id=image_id, times=1)
    workspace.poll()
    workspace.api.control.add_fault("listing_500")
    with pytest.raises(ApiUnavailable):
        workspace.poll()
    assert set(workspace.states().values()) == {"done"}


def test_the_backlog_is_processed_when_an_item_breaks_the_intake(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error is raised unchanged, after the waiting work items are done."""

    def broken(*_: Any) -> None:
        raise RecursionError("an item nested too deep")

    workspace.set(BATCH__IMAGES="3", BATCH__MAX_BATCHES="1")
    assert workspace.poll().images == 3
    workspace.api.control.advance(photos=1)
    with monkeypatch.context() as patch:
        patch.setattr("cropline.intake.manifest.manifest_row", broken)
        with pytest.raises(RecursionError):
            workspace.poll()
    assert list(workspace.states().values()) == ["done"] * 6
    workspace.poll()
    assert list(workspace.states().values()) == ["done"] * 7


def test_during_a_long_pause_of_the_api_it_is_not_called_and_the_backlog_is_processed(
    workspace: Workspace,
) -> None:
    workspace.set(STATE__BACKOFF_S="0.001", API__RETRIES="5")
    control = workspace.api.control
    control.add_fault("image_500", image_id=control.images()[0]["id"], times=1)
    workspace.poll()
    control.add_fault("listing_429", seconds=600)
    control.clear_log()
    with pytest.raises(ApiUnavailable, match="asks to wait 600 s"):
        workspace.poll()
    assert set(workspace.states().values()) == {"done"}
    with pytest.raises(ApiUnavailable, match="asked for a pause"):
        workspace.poll()
    assert [entry["status"] for entry in control.log() if entry["path"] == "/v1/images"] == [429]


def test_a_busy_listing_is_asked_again(workspace: Workspace) -> None:
    workspace.api.control.add_fault("listing_429", times=1, seconds=1)
    assert workspace.poll().images == 6


@after_a_poll()
def test_a_manifest_of_the_wrong_shape_fails_the_run_with_nothing_registered(workspace: Workspace) -> None:
    """As left by a disk error or a later version of cropline: its rows cannot be identified."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from prefect import flow

    from flows.running import open_run
    from tasks.intake import judge

    spec, before = workspace.settings.storage.spec, workspace.end_state()
    landed = pq.read_table(io.BytesIO(storage.read(spec, before["manifests"][0])))
    alike = landed.set_column(0, "row", pa.array([0] * len(landed), pa.int64()))
    sink = io.BytesIO()
    pq.write_table(alike, sink)
    key = before["manifests"][0].replace(".parquet", "-alike.parquet")
    storage.write(spec, key, sink.getvalue())

    @flow(name="judge", persist_result=False)
    def judging() -> None:
        with open_run("judge") as run:
            judge(run, Funnel(), key)

    with pytest.raises(ManifestRejected, match=r"broken as a whole \(row_unique\); nothing was registered"):
        judging()
    after = workspace.end_state()
    assert after | {"manifests": before["manifests"]} == before
    told = [json.loads(line) for line in storage.read(spec, "lineage/events.ndjson").decode().splitlines()]
    ends = {event["job"]["name"]: event for event in told if event["eventType"] == "FAIL"}
    assert set(ends) == {"cropline.validate", "cropline.judge"}
    assert "row_unique" in ends["cropline.validate"]["run"]["facets"]["errorMessage"]["message"]
    facts = ends["cropline.validate"]["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(fact["name"], fact["severity"]) for fact in facts if not fact["success"]] == [("row_unique", "error")]

"""Every hostile picture ends with its reason, takes no memory for what it only declares, and leaks nothing."""

import subprocess
import sys
import time

import pytest

from fugue_jobs.work import Box
from tests.unit.fugue_jobs.imaging import hostile
from tests.unit.fugue_jobs.imaging.cutting import cuts, photo_failure, reason, work_for

# Pillow warns of many of these pictures; crop processes ignore the warnings.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


@pytest.mark.parametrize("case", hostile.HOSTILE, ids=lambda case: case.name)
def test_hostile_pictures_end_with_their_reason(case: hostile.Hostile) -> None:
    began = time.process_time()
    assert reason(case.data, formats=case.formats) == case.reason
    if case.reason is None:
        assert cuts(case.data, formats=case.formats)[0].outcome.flags == case.flags
    assert time.process_time() - began < 10, "no bound was in force"


def test_declared_pixels_are_not_allocated() -> None:
    code = """
import re, sys
sys.path.insert(0, "")
from pathlib import Path
from tests.unit.fugue_jobs.imaging import hostile, cutting
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
cutting.reason(hostile.JPEG)
before = peak()
for case in hostile.HOSTILE:
    if "declares" in case.name or "PNG of" in case.name or "bomb" in case.name:
        cutting.reason(case.data, formats=case.formats)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16_000, "kB; the 80,000,000 x 1 PNG alone would take 80,000"


@pytest.mark.parametrize(
    ("boxes", "reasons"),
    [
        ([Box("a", 0.0, 0.0, float("nan"), 1.0)], ["box_not_finite"]),
        ([Box("a", None, 0.0, 1.0, 1.0)], ["box_not_finite"]),
        ([Box("a", 0.0, 0.0, float("inf"), 1.0)], ["box_not_finite"]),
        ([Box("a", 0.9, 0.0, 0.1, 1.0)], ["box_inverted"]),
        ([Box("a", 0.5, 0.0, 0.5, 1.0)], ["box_empty"]),
        ([Box("a", 1.5, 1.5, 2.0, 2.0)], ["box_outside"]),
        ([Box("a", 0.9, 0.0, 2.0, 1.0)], ["box_mostly_outside"]),
        ([Box("bad", 2.0, 2.0, 3.0, 3.0), Box("good", 0.0, 0.0, 1.0, 1.0)], ["box_outside", None]),
    ],
)
def test_bad_boxes_end_with_their_reason_and_spare_the_others(boxes: list[Box], reasons: list[str | None]) -> None:
    found = cuts(hostile.JPEG, work_for(*boxes))
    assert [cut.outcome.reason for cut in found] == reasons
    assert [cut.data is None for cut in found] == [reason is not None for reason in reasons]


def test_clipped_boxes_and_repeated_ids_are_cut_and_say_so() -> None:
    boxes = [Box("x", -0.2, 0.0, 0.5, 1.0), Box("x", 0.1, 0.1, 0.4, 0.4), Box(None, 0.1, 0.1, 0.4, 0.4)]
    outcomes = [cut.outcome for cut in cuts(hostile.JPEG, work_for(*boxes))]
    assert [outcome.flags for outcome in outcomes] == ["duplicate_box_id,clipped", "duplicate_box_id", None]
    assert [outcome.left for outcome in outcomes] == [0, 32, 32]


def test_boxes_without_ids_repeat_none() -> None:
    boxes = [Box(None, 0.0, 0.0, 0.5, 1.0), Box(None, 0.5, 0.0, 1.0, 1.0), Box("", 0.0, 0.0, 1.0, 1.0)]
    assert [cut.outcome.flags for cut in cuts(hostile.JPEG, work_for(*boxes))] == [None, None, None]


def test_details_quote_neither_the_picture_nor_pillow() -> None:
    for case in hostile.HOSTILE:
        failure = photo_failure(case.data + b"canary-4711", formats=case.formats)
        if failure is not None:
            assert "canary" not in f"{failure} {failure.detail} {failure.__cause__!r}"


def test_a_failure_keeps_no_exception_that_quotes_the_picture() -> None:
    failure = photo_failure(hostile.JPEG[:100])
    assert failure is not None
    assert failure.__suppress_context__

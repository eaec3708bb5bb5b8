"""Charts and tables of the reports: the counts are drawn exactly, and text from outside stays text."""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from PIL import Image

from cropline.core.schemas import CLAIM, CROPS
from cropline.pipeline.funnel import EngineUse, Funnel
from cropline.pipeline.outcomes import funnel_of
from cropline.reports.backlog import backlog_markdown, backlog_svg, backlog_verdict
from cropline.reports.chart import Panel, Series, svg
from cropline.reports.contact_sheet import Tile, boxes_on_photo
from cropline.reports.failures import failure_rows
from cropline.reports.throughput import engine_rows, throughput_svg
from cropline.state import WORK_STATES, BacklogSample, Batch, Counts, ReasonCount, SourceState, StateReport

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def _shapes(picture: str, colour: str) -> list[dict[str, str]]:
    root = ElementTree.fromstring(picture)
    return [dict(entry.attrib) for entry in root.iter() if entry.get("fill") == colour and entry.get("rx") is None]


def _texts(picture: str) -> list[str]:
    return [entry.text or "" for entry in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_bars_are_as_high_as_their_values() -> None:
    panel = Panel("t", [Series("s", "#123456", [(0, 5), (1, 10), (2, 0)])], "bars")
    bars = _shapes(svg([panel], 0, 3), "#123456")
    assert [float(bar["height"]) for bar in bars] == [60.0, 120.0], "of a panel of 120, whose top is 10"


def test_areas_are_stacked() -> None:
    low, high = Series("low", "#111111", [(0, 2)]), Series("high", "#222222", [(0, 3)])
    picture = svg([Panel("t", [low, high])], 0, 10)
    (below,), (above,) = _shapes(picture, "#111111"), _shapes(picture, "#222222")
    # The top of the panel is 5, at y = 40; its height is 120 and y grows downwards.
    assert "V112.0H" in below["d"]
    assert "V40.0H" in above["d"]
    assert {"low", "high"} <= set(_texts(picture))


def test_names_cannot_break_the_picture() -> None:
    picture = svg([Panel("<script>&", [Series("a<b", "#111111", [(0, 1)]), Series("c", "#222222", [(0, 1)])])], 0, 1)
    assert "<script>&" in _texts(picture)


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (1, 1), (2000, 1500)])
def test_a_photo_of_any_shape_is_drawn_within_bounds(size: tuple[int, int]) -> None:
    photo = Image.new("RGB", size, "#808080")
    tiles = [Tile(b"", "t", "n")]
    with Image.open(io.BytesIO(boxes_on_photo(photo, [(0, 0, *size, "x", True)], tiles))) as picture:
        assert picture.width <= 1400
        assert picture.height <= 2800 + 300


@pytest.mark.parametrize(("seconds", "bars"), [(1, 1), (60, 60), (120, 120), (121, 61), (86_400, 120)])
def test_a_long_run_is_drawn_in_at_most_120_bars_and_loses_no_box(seconds: int, bars: int) -> None:
    start = int(NOON.timestamp())
    funnel = Funnel(throughput=Counter({start + second: 4 for second in range(seconds)}))
    picture = throughput_svg(funnel)
    assert picture is not None
    assert len(_shapes(picture, "#12b886")) == bars


def test_executors_are_drawn_and_charged() -> None:
    start = NOON.timestamp()
    use = EngineUse("spark", "set", 4, 30.0, ((start, start + 20), (start + 5, start + 30)))
    funnel = Funnel(throughput=Counter({int(start) + 10: 100}), engines=[use])
    picture = throughput_svg(funnel)
    assert picture is not None
    assert "executors" in _texts(picture)
    assert engine_rows(funnel) == [("spark", "1 batch, 30 s, 45 executor seconds")]


def test_nothing_cut_is_no_picture() -> None:
    assert throughput_svg(Funnel()) is None


def test_a_failure_tells_what_to_do_and_how_to_look_at_it() -> None:
    failure: dict[str, Any] = {
        "image_id": "a b;rm", "box_ids": [None], "profile": "p", "store_id": "s1", "camera_id": None,
        "reason": "http_404", "detail": "404",
    }  # fmt: skip
    (row,) = failure_rows([failure])
    assert row["look at it"] == "cropline show 'a b;rm'"
    assert (row["what to do"], row["tried again"]) == ("ask the camera vendor", "no")
    assert row["boxes"] == "?"
    (row,) = failure_rows([failure | {"box_ids": ["b1", "b2", "b3", "b4", "b5"]}])
    assert row["boxes"] == "b1, b2, b3 and 2 more"


def _report(**values: Any) -> StateReport:
    return StateReport(
        **{
            "at": NOON, "images": dict.fromkeys(WORK_STATES, 0) | {"pending": 3}, "backlog": 3,
            "oldest_pending_since": NOON - timedelta(minutes=45), "oldest_pending_age": timedelta(minutes=45),
            "sources": [SourceState("cams", "2026-11-22", NOON, timedelta(seconds=30))], "batches": [],
            "open_batches": 0, "stale_batches": 1, "outbox": 0, "oldest_event_at": None,
            "reasons": [ReasonCount("failed", "http_5xx", 2)], "unknown_batches": False,
        }
        | values
    )  # fmt: skip


def test_the_backlog_is_told_in_a_sentence_and_drawn_over_the_last_day() -> None:
    samples = [
        BacklogSample(NOON - timedelta(hours=hour), hour, 1, 0, 0, NOON - timedelta(hours=hour, minutes=10))
        for hour in range(23, -1, -1)
    ]
    assert backlog_verdict(_report()) == "3 waiting, the oldest for 45 min; the next run resumes 1 stale batch."
    text = backlog_markdown(_report(), samples)
    assert "![backlog and age over the last day](data:image/svg+xml;base64," in text
    assert "| failed | http_5xx | 2 |" in text
    assert "| cams | 2026-11-22 | less than a minute |" in text
    picture = backlog_svg(samples, NOON)
    assert "50" in _texts(picture), "the scale fits 24 photos"
    assert "10" in _texts(picture), "and ten minutes"


def test_no_backlog_is_said_so() -> None:
    empty = _report(backlog=0, stale_batches=0, oldest_pending_age=None)
    assert backlog_verdict(empty) == "The backlog is empty."


def test_a_photo_that_failed_whole_is_one_failure_beside_the_others() -> None:
    rows = [
        {"image_id": image, "box_id": f"b{number}", "reason": reason, "status": "failed"}
        for image, reason in (("first", "http_404"), ("second", "timeout"))
        for number in range(40)
    ]
    schema = pa.schema([field.with_nullable(True) for field in CROPS])
    crops = pa.Table.from_pylist([dict.fromkeys(CROPS.names) | row for row in rows], schema=schema)
    batch = Batch("b", 1, "cams", NOON, False, NOON, CLAIM.empty_table(), ())
    funnel = funnel_of(batch, crops, Counts(2, 80, 0, 80, 0))
    assert [(one["image_id"], one["reason"], len(one["box_ids"])) for one in funnel.failures] == [
        ("first", "http_404", 40),
        ("second", "timeout", 40),
    ]


def test_a_backlog_that_is_young_is_drawn_over_its_hour_and_not_as_a_line_at_the_edge_of_a_day() -> None:
    (sample,) = [BacklogSample(NOON - timedelta(minutes=30), 8, 0, 0, 0, None)]
    (area,) = _shapes(backlog_svg([sample], NOON), "#4c6ef5")
    left, right = 64, 960 - 20
    assert area["d"].startswith(f"M{(left + right) / 2:.1f} "), "half an hour is half of the picture"


def test_the_scale_of_what_is_counted_has_no_halves() -> None:
    samples = [BacklogSample(NOON - timedelta(minutes=30), 1, 0, 0, 0, None)]
    assert {"0", "1", "2"} <= set(_texts(backlog_svg(samples, NOON)))
    assert "0.5" not in _texts(backlog_svg(samples, NOON))

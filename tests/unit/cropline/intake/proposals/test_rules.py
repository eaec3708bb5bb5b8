"""The rules of proposals: formats of boxes and times, and where items are, by names and value ranges."""

from __future__ import annotations

from typing import Any

import pytest

from cropline.intake.proposals.boxes import find_boxes, propose_unit
from cropline.intake.proposals.items import find_items
from cropline.intake.proposals.times import propose_times

URL = "https://cdn.example.com/1.jpg"


@pytest.mark.parametrize(
    ("boxes", "kind", "certain", "fields"),
    [
        ([{"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}], "xyxy", True, {}),
        ([{"x1": 1, "y1": 2, "x2": 3, "y2": 4}], "xyxy", True, {"xmin": "x1", "ymax": "y2"}),
        ([{"left": 1, "top": 2, "right": 3, "bottom": 4}], "xyxy", True, {"xmax": "right"}),
        ([{"Left": 1, "Top": 2, "Width": 3, "Height": 4}], "xywh", True, {"xmax": "Width"}),
        ([{"cx": 5, "cy": 6, "w": 2, "h": 2}], "cxcywh", True, {"xmin": "cx"}),
        ([{"x_center": 5, "y_center": 6, "width": 2, "height": 2}], "cxcywh", True, {"xmin": "x_center"}),
        ([{"x": 1, "y": 2, "w": 30, "h": 40}], "xywh", True, {"ymax": "h"}),
        ([{"x": 0.9, "y": 0.9, "w": 0.2, "h": 0.2}], "cxcywh", True, {}),
        ([{"x": 50, "y": 50, "w": 3, "h": 4}], "xywh", False, {}),
        ([{"bbox": [100, 100, 20, 30], "label": "a"}], "xywh", True, {"xmin": "bbox[0]", "ymax": "bbox[3]"}),
        ([{"bbox": [1, 1, 20, 30]}, {"bbox": [2, 2, 9, 9]}], "xyxy", True, {"xmax": "bbox[2]"}),
        ([{"box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}}], "xyxy", True, {"xmin": "box.xmin"}),
        ([{"points": [{"x": 1, "y": 2}, {"x": 5, "y": 2}, {"x": 5, "y": 9}]}], "polygon", True, {"polygon": "points"}),
        ([[1, 2, 3, 4], [5, 6, 7, 8]], "xyxy", True, {}),
        ({"b0": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}}, "xyxy", True, {}),
        ({"xmin": [1], "ymin": [2], "xmax": [3], "ymax": [4]}, "xyxy", True, {}),
        ([{"xmin": "1", "ymin": "2", "xmax": "3.5", "ymax": "4"}], "xyxy", True, {}),
    ],
)
def test_the_form_of_boxes_is_known_by_names_and_numbers(
    boxes: Any, kind: str, certain: bool, fields: dict[str, str]
) -> None:
    form = find_boxes([{"id": 1, "url": URL, "detections": boxes}])
    assert form is not None
    (proposed,) = [one for one in form.proposals if one.setting == "box_format"]
    assert (proposed.value, proposed.certain) == (kind, certain)
    found = {one.setting: one.value for one in form.proposals}
    assert found["fields.boxes"] == "detections"
    for name, path in fields.items():
        assert found[f"fields.{name}"] == path


@pytest.mark.parametrize(
    "boxes", [[], None, "none", [{"a": 1}], [{"xmin": "left", "ymin": 1, "xmax": 2, "ymax": 3}], [[1, 2]]]
)
def test_what_is_no_box_is_not_taken_for_one(boxes: Any) -> None:
    assert find_boxes([{"id": 1, "url": URL, "boxes": boxes}]) is None


@pytest.mark.parametrize(
    ("largest", "declared", "photo", "unit", "certain"),
    [
        (0.98, [], None, "normalised", True),
        (1170.0, [], None, "pixels", True),
        (99.0, [], (4000, 3000), "percent", True),
        (99.0, [(4000.0, 3000.0)], None, "percent", True),
        (30.0, [], (4000, 3000), "percent", False),
        (99.0, [], (120, 100), "pixels", True),
        (99.0, [], None, "pixels", False),
    ],
)
def test_the_unit_of_boxes_is_known_by_their_range_and_the_photos_size(
    largest: float, declared: Any, photo: Any, unit: str, certain: bool
) -> None:
    form = find_boxes([{"url": URL, "boxes": [{"xmin": 0, "ymin": 0, "xmax": largest, "ymax": largest}]}])
    assert form is not None
    proposed = propose_unit(form, declared, photo)
    assert (proposed.value, proposed.certain) == (unit, certain)


@pytest.mark.parametrize(
    ("values", "proposed"),
    [
        (["2026-04-10T08:00:00Z"], [("time_format", "iso", True)]),
        (["2026-04-10 08:00:00"], [("time_format", "iso", True), ("time_zone", "UTC", False)]),
        ([1775808000], [("time_format", "epoch_s", True)]),
        (["1775808000000"], [("time_format", "epoch_ms", True)]),
        (["13.04.2026 08:00:00"], [("time_format", "%d.%m.%Y %H:%M:%S", True), ("time_zone", "UTC", False)]),
        (["04/13/2026 08:00:00"], [("time_format", "%m/%d/%Y %H:%M:%S", True), ("time_zone", "UTC", False)]),
        (["04/05/2026 08:00:00"], [("time_format", "%d/%m/%Y %H:%M:%S", False), ("time_zone", "UTC", False)]),
        (["soon"], []),
        ([17], []),
    ],
)
def test_the_format_of_times_is_known_by_all_of_them(values: list[Any], proposed: list[tuple[str, str, bool]]) -> None:
    assert [(one.setting, one.value, one.certain) for one in propose_times(values)] == proposed


@pytest.mark.parametrize(
    ("body", "selector"),
    [
        ([{"url": URL}], "$"),
        ({"images": [{"url": URL}], "stores": [{"id": 1}]}, "images"),
        ({"data": {"items": [{"asset": {"href": URL}}]}}, "data.items"),
        ({"visits": [{"photos": [{"path": "a/1.jpg"}]}]}, "visits[*].photos[*]"),
        ([{"photos": [{"path": "a/1.jpg"}]}], "$[*].photos[*]"),
        ({"images": [{"id": 1}]}, None),
        ({"images": []}, None),
        ("text", None),
        ({"images": [{"url": "s3://bucket/1.jpg"}]}, "images"),
    ],
)
def test_the_items_are_the_objects_with_an_address_of_a_photo(body: Any, selector: str | None) -> None:
    found, proposal = find_items(body)
    assert (found.selector if found else None) == (proposal.value if proposal else None) == selector

"""Boxes in every known form become the same box, or their field is named as unreadable."""

from typing import Any

import pytest

from cropline.config.settings import ApiSettings
from cropline.intake import manifest

SIZE = {"width": 200, "height": 100}


def boxes_of(boxes: Any, item: dict[str, Any] | None = None, **changes: Any) -> tuple[list[tuple[Any, ...]], list[str]]:
    api = ApiSettings(**({"url": "http://cameras.example", "coordinates": "pixels"} | changes))
    row = manifest.manifest_row(0, {"id": "i", "etag": "e", "boxes": boxes, **(item or {})}, api)
    got = [
        (
            box["box_id"],
            box["label"],
            *(None if box[n] is None else round(box[n], 6) for n in ("xmin", "ymin", "xmax", "ymax")),
        )
        for box in row["boxes"] or ()
    ]
    return got, row["unreadable"]


def named(**changes: str) -> dict[str, Any]:
    return {"fields": changes}


@pytest.mark.parametrize(
    ("changes", "box"),
    [
        ({}, {"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60}),
        ({}, {"xmin": "10", "ymin": "20.0", "xmax": "4e1", "ymax": 60}),
        (
            {"box_format": "xywh", **named(xmin="x", ymin="y", xmax="width", ymax="height")},
            {"x": 10, "y": 20, "width": 30, "height": 40},
        ),
        (
            {"box_format": "cxcywh", **named(xmin="c[0]", ymin="c[1]", xmax="w", ymax="h")},
            {"c": [25, 40], "w": 30, "h": "40"},
        ),
        (
            {"box_format": "xywh", **named(xmin="bbox[0]", ymin="bbox[1]", xmax="bbox[2]", ymax="bbox[3]")},
            {"bbox": [10, 20, 30, 40]},
        ),
        ({"box_format": "polygon", **named(polygon="points")}, {"points": [[10, 20], [40, 30], [25, 60]]}),
        ({"box_format": "polygon", **named(polygon="points")}, {"points": [10, 20, 40, 30, 25, 60]}),
        (
            {"box_format": "polygon", **named(polygon="segmentation")},
            {"segmentation": [[10, 20, 40, 30], [25, 60, 30, 30]]},
        ),
        ({"box_format": "polygon", **named(polygon="v")}, {"v": [{"x": 10, "y": 20}, {"x": "40", "y": 60}]}),
        ({"box_format": "polygon", **named(polygon="v")}, {"v": [{"X": 10, "Y": 20}, {"X": 40, "Y": 60}]}),
        ({"box_format": "polygon", **named(polygon="v")}, {"v": "10,20 40,20 40,60"}),
        ({"box_format": "polygon", **named(polygon="v")}, {"v": "[[10, 20], [40, 60]]"}),
    ],
)
def test_one_box_in_every_format(changes: dict[str, Any], box: dict[str, Any]) -> None:
    got, unreadable = boxes_of([box], **changes)
    assert (got, unreadable) == ([(None, None, 10, 20, 40, 60)], [])


def test_a_left_out_coordinate_of_a_point_is_zero() -> None:
    points = [{"y": 20}, {"x": 40}, {}]
    got, _ = boxes_of([{"vertices": points}], box_format="polygon", **named(polygon="vertices"))
    assert got == [(None, None, 0, 0, 40, 20)]


@pytest.mark.parametrize("points", [[{"lat": 1}, {"lat": 2}], [{}, {}], "", "10 20 30", "[[1, 2]", "a,b c,d", [[1, 2]]])
def test_points_that_are_none_are_unreadable_and_not_zero(points: Any) -> None:
    got, unreadable = boxes_of([{"v": points}], box_format="polygon", **named(polygon="v"))
    assert (got, unreadable) == ([(None, None, None, None, None, None)], ["boxes[0].polygon"])


def test_percent_become_parts_of_one() -> None:
    box = {"id": "b", "x": 5, "y": 20, "w": 15, "h": 40}
    got, _ = boxes_of([box], coordinates="percent", box_format="xywh", **named(xmin="x", ymin="y", xmax="w", ymax="h"))
    assert got == [("b", None, 0.05, 0.2, 0.2, 0.6)]
    api = ApiSettings(url="http://cameras.example", coordinates="percent")
    assert manifest.manifest_row(0, {"id": "i"}, api)["coordinates"] == "normalised"


@pytest.mark.parametrize(
    "boxes",
    [
        [[10, 20, 40, 60], [1, 2, 3, 4]],
        {"a": {"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60}, "b": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}},
        {"a": [10, 20, 40, 60], "b": ["1", "2", "3", "4"]},
        {"xmin": [10, 1], "ymin": [20, 2], "xmax": [40, 3], "ymax": [60, 4], "id": ["a", "b"]},
        "[[10, 20, 40, 60], [1, 2, 3, 4]]",
    ],
)
def test_boxes_as_lists_by_id_and_as_parallel_lists(boxes: Any) -> None:
    got, unreadable = boxes_of(boxes)
    assert [box[2:] for box in got] == [(10, 20, 40, 60), (1, 2, 3, 4)]
    assert [box[0] for box in got] in (["a", "b"], [None, None])
    assert ([box[0] for box in got] == ["a", "b"]) is isinstance(boxes, dict)
    assert unreadable == []


def test_parallel_lists_beside_each_other_are_put_together_by_a_path() -> None:
    item = {"labels": ["cola", "water"], "rects": [[10, 20, 40, 60], [1, 2, 3, 4]]}
    fields = {
        "boxes": "{label: labels, at: rects}", "xmin": "at[0]", "ymin": "at[1]", "xmax": "at[2]", "ymax": "at[3]"
    }  # fmt: skip
    got, unreadable = boxes_of(None, item, fields=fields)
    assert (got, unreadable) == ([(None, "cola", 10, 20, 40, 60), (None, "water", 1, 2, 3, 4)], [])


@pytest.mark.parametrize(
    ("boxes", "changes", "unreadable"),
    [
        ("none", {}, ["boxes"]),
        ([1, 2], {}, ["boxes"]),
        ({"xmin": [1, 2], "ymin": [1]}, {}, ["boxes"]),
        ([{"xmin": "ten", "ymin": 1, "xmax": 2, "ymax": 2}], {}, ["boxes[0].xmin"]),
        ([{"p": [[1, 2, 3]]}], {"box_format": "polygon", **named(polygon="p")}, ["boxes[0].polygon"]),
        ([{"p": [[1, 2]]}], {"box_format": "polygon", **named(polygon="p")}, ["boxes[0].polygon"]),
        ([{"p": {"counts": "RLE"}}], {"box_format": "polygon", **named(polygon="p")}, ["boxes[0].polygon"]),
        ([{"p": [1, None]}], {"box_format": "polygon", **named(polygon="p")}, ["boxes[0].polygon"]),
        ([{"xmin": 1, "ymin": 1, "xmax": 2, "ymax": 2, "rotation": 30}], {}, ["boxes[0].rotation"]),
        ([{"xmin": 1, "ymin": 1, "xmax": 2, "ymax": 2, "rotation": "30"}], {"coordinates": "percent", "rotation": "bounding"}, ["boxes[0].rotation"]),
    ],
)  # fmt: skip
def test_what_is_no_box_is_named(boxes: Any, changes: dict[str, Any], unreadable: list[str]) -> None:
    assert boxes_of(boxes, **changes)[1] == unreadable


@pytest.mark.parametrize("turn", [0, 360, -720, 0.0, None, "0"])
def test_a_turn_by_nothing_is_none(turn: Any) -> None:
    box = {"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60, "rotation": turn}
    assert boxes_of([box]) == ([(None, None, 10, 20, 40, 60)], [])


def test_a_turned_box_gives_what_is_around_it() -> None:
    middle = {"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60, "rotation": 90}
    got, _ = boxes_of([middle], rotation="bounding")
    assert got == [(None, None, 5, 25, 45, 55)]
    # As in Label Studio: percent, clockwise, around the top left corner; the photo is twice as wide as high.
    fields = named(xmin="x", ymin="y", xmax="width", ymax="height")
    corner = {"x": 50, "y": 20, "width": 10, "height": 40, "rotation": 90}
    got, _ = boxes_of([corner], SIZE, rotation="bounding", box_format="xywh", coordinates="percent", **fields)
    assert got == [(None, None, 0.3, 0.2, 0.5, 0.4)]


@pytest.mark.parametrize(
    ("url", "base", "want"),
    [
        ("media/1.jpg", "https://a.example/files", "https://a.example/files/media/1.jpg"),
        ("/media/1.jpg", "https://a.example/files", "https://a.example/media/1.jpg"),
        ("//cdn.example/1.jpg", "https://a.example", "https://cdn.example/1.jpg"),
        ("https://b.example/1.jpg?x=1", "https://a.example", "https://b.example/1.jpg?x=1"),
        ("https://b.example/Käse und Brot/1.jpg", "", "https://b.example/K%C3%A4se%20und%20Brot/1.jpg"),
        ("Regal 1/ä.jpg", "https://a.example", "https://a.example/Regal%201/%C3%A4.jpg"),
        ("https://b.example/a%20b.jpg?sig=a%2Fb", "", "https://b.example/a%20b.jpg?sig=a%2Fb"),
        ("https://b.example/a\tb.jpg", "", "https://b.example/a\tb.jpg"),
        ("https://b.example\\@c.example/x", "", "https://b.example\\@c.example/x"),
        ("relative.jpg", "", "relative.jpg"),
        ("file:///etc/passwd", "https://a.example", "file:///etc/passwd"),
    ],
)
def test_an_address_is_made_whole_and_its_path_is_encoded(url: str, base: str, want: str) -> None:
    api = ApiSettings(url="http://cameras.example", url_base=base)
    assert manifest.manifest_row(0, {"id": "i", "url": url}, api)["url"] == want


@pytest.mark.parametrize(
    ("value", "changes", "want"),
    [
        (1_775_808_000, {"time_format": "epoch_s"}, "2026-04-10T08:00:00+00:00"),
        ("1775808000", {"time_format": "epoch_s"}, "2026-04-10T08:00:00+00:00"),
        (1_775_808_000_500, {"time_format": "epoch_ms"}, "2026-04-10T08:00:00.500000+00:00"),
        ("2026-04-10 10:00:00", {"time_zone": "Europe/Berlin"}, "2026-04-10T08:00:00+00:00"),
        ("2026-04-10T10:00:00+02:00", {"time_zone": "Asia/Tokyo"}, "2026-04-10T08:00:00+00:00"),
        ("10.04.2026 10:00:00", {"time_format": "%d.%m.%Y %H:%M:%S", "time_zone": "Europe/Berlin"}, "2026-04-10T08:00:00+00:00"),
        (1_775_808_000, {}, None),
        (1e300, {"time_format": "epoch_s"}, None),
        (float("nan"), {"time_format": "epoch_ms"}, None),
        ("soon", {"time_format": "epoch_s"}, None),
        (True, {"time_format": "epoch_s"}, None),
        ("2026-13-10", {"time_format": "%Y-%m-%d"}, None),
    ],
)  # fmt: skip
def test_times_are_read_as_the_settings_say(value: Any, changes: dict[str, Any], want: str | None) -> None:
    api = ApiSettings(url="http://cameras.example", **changes)
    row = manifest.manifest_row(0, {"id": "i", "captured_at": value}, api)
    assert (row["captured_at"].isoformat() if row["captured_at"] else None) == want
    assert ("captured_at" in row["unreadable"]) is (want is None)

"""A slot follows one place of the shelf through a camera's photos: nudges, gaps, other numbering."""

from datetime import timedelta
from typing import Any

import pytest

from cropline.gallery.slots import iou, nudge, timeline
from cropline.gallery.strip import with_changes
from tests.unit.cropline.gallery.shelves import MORNING, box, failed, picture


def at(minutes: int) -> dict[str, Any]:
    moment = MORNING + timedelta(minutes=minutes)
    return {"at": moment}


def rows(*photos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return catalogue rows: captured_at as a time."""
    return [row | {"captured_at": MORNING.fromisoformat(row["captured_at"])} for photo in photos for row in photo]


def shelf(image_id: str, minutes: int, by: int = 0, **values: Any) -> list[dict[str, Any]]:
    """Return the rows of a photo of four boxes, all moved to the right by some pixels."""
    photo = [box(image_id, number, **at(minutes), **values) for number in range(4)]
    return [row | {"left": row["left"] + by, "right": row["right"] + by} for row in photo]


def test_the_box_at_the_same_place_is_found_whatever_its_number() -> None:
    first, second = shelf("a", 0), shelf("b", 1)
    renumbered = [row | {"box_id": f"x{3 - row['box_index']}"} for row in second]
    found = timeline(rows(first, renumbered), rows(first)[1])
    assert [(m.row["box_index"], m.why) for m in found if m.row] == [(1, ""), (1, "")]


def test_an_id_alone_does_not_make_a_slot() -> None:
    first = shelf("a", 0)
    elsewhere = [box("b", 3, **at(1), box_id="b0")]
    found = timeline(rows(first, elsewhere), rows(first)[0])
    assert (found[1].row, found[1].why) == (None, "no box here")


def test_a_nudged_camera_shows_the_same_slot() -> None:
    """By 75 px a box lies as near to its neighbour's place as to its own."""
    first, moved = shelf("a", 0), shelf("b", 1, by=60)
    found = timeline(rows(first, moved), rows(first)[2])
    assert found[1].row is not None
    assert found[1].row["box_index"] == 2
    assert found[1].moved == (pytest.approx(0.06), 0.0)


def test_one_moved_product_is_no_nudge() -> None:
    first, second = shelf("a", 0), shelf("b", 1)
    second[0] |= {"left": second[0]["left"] + 50, "right": second[0]["right"] + 50}
    assert nudge(rows(first), rows(second)) == (pytest.approx(0), 0)


def test_gaps_say_why() -> None:
    first = shelf("a", 0)
    broken = [failed("b", number, "damaged_pixels", **at(1)) for number in range(4)]
    gone = [failed("c", number, **at(2)) | {"left": None, "image_width": None} for number in range(4)]
    empty = shelf("d", 3)[2:]
    found = timeline(rows(first, broken, gone, empty), rows(first)[0])
    assert [m.why for m in found] == ["", "failed: damaged_pixels", "the whole photo failed: http_404", "no box here"]


def test_another_profile_is_not_mixed_in() -> None:
    first = shelf("a", 0)
    other = shelf("a", 0, profile="small")
    found = timeline(rows(first, other), rows(first)[0])
    assert len(found) == 1


@pytest.mark.parametrize(
    ("other", "overlap"),
    [((0, 0, 1, 1), 1.0), ((0.5, 0, 1.5, 1), 1 / 3), ((1, 0, 2, 1), 0.0), ((0.25, 0.25, 0.75, 0.75), 0.25)],
)
def test_overlap_is_common_over_total_area(other: tuple[float, float, float, float], overlap: float) -> None:
    assert iou((0, 0, 1, 1), other) == pytest.approx(overlap)


def test_another_colour_and_another_pattern_are_changes_and_the_same_picture_is_none() -> None:
    photos = [shelf(name, minutes) for minutes, name in enumerate("abcd")]
    drawn = {"a": picture("red"), "b": picture("red"), "c": picture("blue"), "d": picture("blue", 7)}
    moments = timeline(rows(*photos), rows(photos[0])[0])
    changes = [moment.change for moment in with_changes(moments, lambda row: drawn[row["image_id"]])]
    assert changes[0] is None
    assert changes[1] == 0
    assert changes[2] is not None
    assert changes[2] > 0.5
    assert changes[3] is not None
    assert changes[3] > 0.3

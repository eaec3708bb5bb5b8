"""Boxes are measured in the picture size that the API declares; for photos of another size they are scaled or fail."""

import pytest

from cropline.config.profile import Profile
from fugue_jobs.work import Box, CropOutcome
from tests.photos import drawn, encoded, with_orientation
from tests.unit.fugue_jobs.imaging.cutting import cuts, work_for

BOX = Box("b", 100.0, 100.0, 500.0, 400.0)


def outcome(
    declared: tuple[int | None, int | None],
    *,
    size: tuple[int, int] = (800, 600),
    box: Box = BOX,
    turned: int = 1,
    mode: str = "rescale",
    kind: str = "JPEG",
    coordinates: str = "pixels",
    orientation: str = "upright",
) -> CropOutcome:
    """Return the outcome of one box in a photo of this stored size."""
    photo = encoded(drawn(*size), kind, exif=with_orientation(turned))
    work = work_for(box, profiles=(Profile(),), declared=declared, coordinates=coordinates, orientation=orientation)
    return cuts(photo, work, size_mismatch=mode)[0].outcome


def region(found: CropOutcome) -> tuple[int | None, ...]:
    return found.left, found.top, found.right, found.bottom


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("declared", "size", "wanted"),
    [
        ((1600, 1200), (800, 600), (50, 50, 250, 200)),
        ((400, 300), (800, 600), (200, 200, 800, 600)),
        ((4000, 3000), (1000, 749), (25, 25, 125, 100)),  # 749.75 rows, rounded down
        ((1600, 1199), (800, 600), (50, 50, 250, 200)),
    ],
)
def test_pixels_of_another_size_of_the_same_shape_are_rescaled_and_flagged(
    declared: tuple[int, int], size: tuple[int, int], wanted: tuple[int, ...], kind: str
) -> None:
    found = outcome(declared, size=size, kind=kind)
    assert (found.status, region(found)) == ("written", wanted)
    assert "rescaled" in (found.flags or "").split(",")


@pytest.mark.parametrize("declared", [(800, 600), (None, None), (800, None), (None, 600)])
def test_boxes_of_the_size_that_is_declared_are_cut_as_they_are(declared: tuple[int | None, int | None]) -> None:
    found = outcome(declared)
    assert (region(found), found.flags) == ((100, 100, 500, 400), None)


@pytest.mark.parametrize("declared", [(1600, 1300), (900, 600), (1600, None), (None, 300)])
def test_pixels_of_another_shape_fail_and_name_both_sizes(declared: tuple[int | None, int | None]) -> None:
    found = outcome(declared)
    assert (found.status, found.reason) == ("failed", "size_mismatch")
    said = " x ".join("?" if side is None else str(side) for side in declared)
    assert found.detail == f"{said} px declared, the photo has 800 x 600 px"


def test_the_setting_fails_what_could_be_rescaled_or_cuts_it_as_it_is_with_a_flag() -> None:
    assert outcome((1600, 1200), mode="fail").reason == "size_mismatch"
    for declared in ((1600, 1200), (1600, 1300)):
        found = outcome(declared, mode="ignore")
        assert (region(found), found.flags) == ((100, 100, 500, 400), "size_differs")


def test_swapped_sides_are_noticed_and_the_setting_for_stored_boxes_is_named() -> None:
    found = outcome((800, 600), turned=6)
    assert found.reason == "size_mismatch"
    assert "CROPLINE_API__ORIENTATION=stored" in (found.detail or "")
    bare = outcome((600, 800))
    assert bare.reason == "size_mismatch"
    assert "sides are swapped" in (bare.detail or "")


@pytest.mark.parametrize("declared", [(800, 600), (600, 800)])
@pytest.mark.parametrize("turned", [5, 6, 7, 8])
def test_boxes_of_the_stored_picture_take_a_declared_size_of_either_way_up(
    declared: tuple[int, int], turned: int
) -> None:
    plain = outcome((None, None), turned=turned, orientation="stored")
    assert outcome(declared, turned=turned, orientation="stored") == plain
    doubled = (2 * declared[0], 2 * declared[1])
    box = Box("b", 200.0, 200.0, 1000.0, 800.0)
    again = outcome(doubled, turned=turned, orientation="stored", box=box)
    assert (region(again), again.sha256, again.flags) == (region(plain), plain.sha256, "rescaled")


def test_normalised_boxes_fit_any_size_and_say_when_the_shape_differs() -> None:
    box = Box("b", 0.1, 0.1, 0.5, 0.5)
    plain = outcome((None, None), box=box, coordinates="normalised")
    assert outcome((1600, 1200), box=box, coordinates="normalised") == plain
    for declared in ((1600, 1300), (600, 800)):
        found = outcome(declared, box=box, coordinates="normalised", mode="fail")
        assert (region(found), found.flags) == (region(plain), "aspect_differs")


def test_a_box_beyond_the_small_copy_is_not_outside_once_it_is_rescaled() -> None:
    assert outcome((1600, 1200), box=Box("b", 1500.0, 1100.0, 1600.0, 1200.0)).status == "written"
    assert outcome((1600, 1200), box=Box("b", 1700.0, 1100.0, 1800.0, 1200.0)).reason == "box_outside"

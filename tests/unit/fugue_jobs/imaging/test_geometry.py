"""Boxes to pixels: the rounding rule, refused boxes, and that no orientation changes what a box shows."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.geometry import Placement, Region, place, to_stored
from fugue_jobs.work import Box
from tests.photos import drawn, with_orientation

NAN, INF = float("nan"), float("inf")


def placed(box: tuple[object, ...], width: int = 100, height: int = 50, **changes: object) -> Placement:
    options = {"coordinates": "pixels", "turned": 1, "padding": 0.0, "min_iou": 0.5} | changes
    return place(Box("b", *box), width, height, **options)  # type: ignore[arg-type]


def placed_or_refused(*arguments: Any, **changes: object) -> Placement | PhotoFailure:
    try:
        return placed(*arguments, **changes)
    except PhotoFailure as refused:
        return refused


@pytest.mark.parametrize(
    ("box", "region"),
    [
        ((10, 10, 20, 20), (10, 10, 20, 20)),
        ((10.49, 10.5, 20.49, 20.5), (10, 11, 20, 21)),  # halves go up
        ((0.5, 1.5, 2.5, 3.5), (1, 2, 3, 4)),  # always, not to even
        ((10.2, 10.2, 10.4, 10.4), (10, 10, 11, 11)),  # never thinner than a pixel
        ((99.6, 49.7, 100, 50), (99, 49, 100, 50)),  # also at the far edge
        ((0, 0, 100, 50), (0, 0, 100, 50)),
    ],
)
def test_each_edge_is_rounded_by_itself_halves_up(box: tuple[float, ...], region: tuple[int, ...]) -> None:
    assert placed(box) == (region, False)


def test_normalised_boxes_are_scaled_by_the_upright_size() -> None:
    assert placed((0.1, 0.2, 0.5, 1.0), coordinates="normalised").region == (10, 10, 50, 50)


def test_padding_is_a_share_of_the_boxs_own_side_and_stops_at_the_picture() -> None:
    assert placed((40, 10, 60, 20), padding=0.5).region == (30, 5, 70, 25)
    assert placed((0, 10, 60, 20), padding=2).region == (0, 0, 100, 40)
    assert not placed((0, 10, 60, 20), padding=2).clipped, "only the box itself is said to be clipped"


@pytest.mark.parametrize(
    ("box", "code"),
    [
        ((NAN, 0, 1, 1), "box_not_finite"),
        ((0, None, 1, 1), "box_not_finite"),
        ((0, 0, INF, 1), "box_not_finite"),
        ((-INF, 0, 1, 1), "box_not_finite"),
        ((20, 0, 10, 10), "box_inverted"),
        ((0, 20, 10, 10), "box_inverted"),
        ((10, 10, 10, 20), "box_empty"),
        ((10, 10, 20, 10), "box_empty"),
        ((1e-300, 1e-300, 2e-300, 2e-300), "box_empty"),
        ((100, 10, 120, 20), "box_outside"),
        ((-20, 10, 0, 20), "box_outside"),
        ((10, 50, 20, 60), "box_outside"),
        ((-1e200, -1e200, 1e200, 1e200), "box_outside"),
        ((90, 10, 111, 20), "box_mostly_outside"),
        ((90, 45, 105, 55), "box_mostly_outside"),
    ],
)
def test_boxes_that_mean_nothing_are_refused(box: tuple[object, ...], code: str) -> None:
    with pytest.raises(PhotoFailure) as refused:
        placed(box)
    assert refused.value.code == code


def test_a_box_that_sticks_out_is_clipped_down_to_half_of_it() -> None:
    assert placed((90, 10, 110, 20)) == ((90, 10, 100, 20), True)
    assert placed((90, 10, 1000, 20), min_iou=0) == ((90, 10, 100, 20), True)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_shows_the_same_in_the_stored_picture(orientation: int) -> None:
    stored = drawn(61, 37, seed=orientation)
    stored.info["exif"] = with_orientation(orientation).tobytes()
    upright = ImageOps.exif_transpose(stored)
    region = Region(5, 9, 21, 30)
    cut = stored.crop(to_stored(region, *upright.size, orientation))
    cut.info["exif"] = with_orientation(orientation).tobytes()
    assert ImageOps.exif_transpose(cut).tobytes() == upright.crop(region).tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("coordinates", ["pixels", "normalised"])
def test_boxes_of_the_stored_picture_show_what_they_showed_there(orientation: int, coordinates: str) -> None:
    stored = drawn(60, 40, seed=orientation)
    box = (6, 10, 24, 30)
    shown = stored.crop(box)
    for picture in (stored, shown):
        picture.info["exif"] = with_orientation(orientation).tobytes()
    upright = ImageOps.exif_transpose(stored)
    edges = box if coordinates == "pixels" else (box[0] / 60, box[1] / 40, box[2] / 60, box[3] / 40)
    region = placed(edges, *upright.size, coordinates=coordinates, turned=orientation).region
    assert upright.crop(region).tobytes() == ImageOps.exif_transpose(shown).tobytes()


sides = st.integers(1, 20_000)
numbers = st.one_of(st.floats(), st.floats(-2, 2), st.none(), st.sampled_from([0.0, 1.0, 0.5, -0.0, 1e308, 5e-324]))


@settings(max_examples=600, derandomize=True, deadline=None)
@given(
    box=st.tuples(numbers, numbers, numbers, numbers),
    width=sides,
    height=sides,
    turned=st.integers(1, 8),
    coordinates=st.sampled_from(["normalised", "pixels"]),
    padding=st.floats(0, 2),
    min_iou=st.floats(0, 1),
)
def test_any_box_is_placed_inside_or_refused(
    box: tuple[float | None, ...],
    width: int,
    height: int,
    turned: int,
    coordinates: str,
    padding: float,
    min_iou: float,
) -> None:
    found = placed_or_refused(
        box, width, height, turned=turned, coordinates=coordinates, padding=padding, min_iou=min_iou
    )
    if isinstance(found, PhotoFailure):
        assert found.code.startswith("box_")
        return
    left, top, right, bottom = found.region
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert all(isinstance(edge, int) for edge in found.region)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    edges=st.tuples(*[st.fractions(0, 1, max_denominator=4096)] * 4),
    width=sides,
    height=sides,
)
def test_rounding_is_that_of_exact_arithmetic(edges: tuple[Fraction, ...], width: int, height: int) -> None:
    left, right = sorted(edges[0::2])
    top, bottom = sorted(edges[1::2])
    if left == right or top == bottom:
        return
    region = placed(
        (float(left), float(top), float(right), float(bottom)), width, height, coordinates="normalised"
    ).region
    # A float product may fall on either side of a half: then both neighbours are right.
    for exact, whole, side in ((left * width, region.left, width), (top * height, region.top, height)):
        wanted = min(math.floor(exact + Fraction(1, 2)), side - 1)
        on_a_half = abs(exact - math.floor(exact) - Fraction(1, 2)) < Fraction(1, 10**9)
        assert whole == wanted or (on_a_half and abs(whole - wanted) <= 1)


def test_pillow_agrees_that_nothing_is_added_around_a_clipped_box() -> None:
    picture = Image.new("RGB", (100, 50), "white")
    region = placed((-10, -5, 90, 45)).region
    assert picture.crop(region).getextrema() == ((255, 255),) * 3

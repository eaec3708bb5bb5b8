"""Converts a received box to the pixels to cut: units, orientation, padding, rounding, clipping. Pure functions.

The rule, in this order, always in the upright picture of ``width`` x ``height`` pixels:

1. Normalised coordinates are multiplied by width and height. Pixels of another size are scaled to this
   one (declared.py). Boxes of the stored picture are turned upright.
2. A box must be finite, ordered and not empty, and at least ``min_iou`` of its area must be inside the picture.
3. Padding: ``padding`` times the box's own width (height) is added on its left and right (top and bottom).
4. Each edge is rounded separately to the nearest pixel edge, halves up: ``floor(v + 0.5)``.
5. The region is clipped to the picture. It is never thinner than one pixel.

Because edges are rounded in the upright picture, all eight EXIF orientations of a photo give the same crop.
"""

import math
from typing import NamedTuple

from cropline.core.failures import PhotoFailure
from fugue_jobs.work import Box

# EXIF orientation -> how the stored picture becomes upright: swap x and y, then mirror x, then mirror y.
_TURNS: dict[int, tuple[bool, bool, bool]] = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


class Region(NamedTuple):
    """Whole pixels: left and top inclusive, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


def turn_of(orientation: int) -> tuple[bool, bool, bool]:
    """Return whether turning upright swaps x and y, then mirrors x, then mirrors y."""
    return _TURNS[orientation]


class Placement(NamedTuple):
    """A box's place in the upright picture. ``clipped``: the unpadded box was partly outside."""

    region: Region
    clipped: bool


Edges = tuple[float, float, float, float]
Ratio = tuple[int, int]
"""A factor as a fraction, which keeps whole pixels exact."""


def swaps_sides(orientation: int) -> bool:
    """Return whether this EXIF orientation turns a landscape picture into a portrait."""
    return _TURNS[orientation][0]


def place(
    box: Box,
    width: int,
    height: int,
    *,
    coordinates: str,
    turned: int,
    padding: float,
    min_iou: float,
    across: Ratio = (1, 1),
    down: Ratio = (1, 1),
) -> Placement:
    """Return the pixels of the upright picture (``width`` x ``height``) for a box, by the rule above.

    ``turned`` is the EXIF orientation to turn the box by: 1 for boxes of the upright picture. ``across``
    and ``down`` scale the x and y of pixel boxes, before they are turned.
    Raise PhotoFailure with a ``box_*`` code.
    """
    in_pixels = _in_pixels(box, width, height, coordinates, turned)
    if coordinates == "pixels":
        in_pixels = _scaled(in_pixels, across, down)
    edges = _checked(to_upright(in_pixels, width, height, turned))
    inside = _share_inside(edges, width, height)
    if inside <= 0:
        raise PhotoFailure("box_outside", "the box is outside the picture")
    if inside < min_iou:
        raise PhotoFailure("box_mostly_outside", f"only {inside:.0%} of the box is inside the picture")
    left, top, right, bottom = edges
    pad_x, pad_y = padding * (right - left), padding * (bottom - top)
    columns = _whole(left - pad_x, right + pad_x, width)
    rows = _whole(top - pad_y, bottom + pad_y, height)
    return Placement(Region(columns[0], rows[0], columns[1], rows[1]), clipped=inside < 1)


def to_stored(region: Region, width: int, height: int, orientation: int) -> Region:
    """Return the same pixels in the stored picture, given the upright picture's size and its EXIF orientation."""
    swap, mirror_x, mirror_y = _TURNS[orientation]
    left, top, right, bottom = region
    if mirror_x:
        left, right = width - right, width - left
    if mirror_y:
        top, bottom = height - bottom, height - top
    return Region(top, left, bottom, right) if swap else Region(left, top, right, bottom)


def to_upright(edges: Edges, width: int, height: int, turned: int) -> Edges:
    """Convert edges in the stored picture to edges in the upright one of ``width`` x ``height``."""
    swap, mirror_x, mirror_y = _TURNS[turned]
    xmin, ymin, xmax, ymax = edges
    if swap:
        xmin, ymin, xmax, ymax = ymin, xmin, ymax, xmax
    if mirror_x:
        xmin, xmax = width - xmax, width - xmin
    if mirror_y:
        ymin, ymax = height - ymax, height - ymin
    return xmin, ymin, xmax, ymax


def _in_pixels(box: Box, width: int, height: int, coordinates: str, turned: int) -> Edges:
    xmin, ymin, xmax, ymax = box.xmin, box.ymin, box.xmax, box.ymax
    if xmin is None or ymin is None or xmax is None or ymax is None or not _finite(xmin, ymin, xmax, ymax):
        raise PhotoFailure("box_not_finite", "a coordinate is missing, NaN or infinite")
    xmin, ymin, xmax, ymax = float(xmin), float(ymin), float(xmax), float(ymax)
    if coordinates != "normalised":
        return xmin, ymin, xmax, ymax
    across, down = (height, width) if swaps_sides(turned) else (width, height)
    return xmin * across, ymin * down, xmax * across, ymax * down


def _finite(xmin: float, ymin: float, xmax: float, ymax: float) -> bool:
    return math.isfinite(xmin) and math.isfinite(ymin) and math.isfinite(xmax) and math.isfinite(ymax)


def _scaled(edges: Edges, across: Ratio, down: Ratio) -> Edges:
    xmin, ymin, xmax, ymax = edges
    (wide, wide_of), (high, high_of) = across, down
    return xmin * wide / wide_of, ymin * high / high_of, xmax * wide / wide_of, ymax * high / high_of


def _checked(edges: Edges) -> Edges:
    xmin, ymin, xmax, ymax = edges
    if xmax < xmin or ymax < ymin:
        raise PhotoFailure("box_inverted", "a maximum is smaller than its minimum")
    area = (xmax - xmin) * (ymax - ymin)
    if not math.isfinite(area):
        raise PhotoFailure("box_outside", "the box is larger than any picture")
    if area <= 0:
        raise PhotoFailure("box_empty", "the box has no area")
    return edges


def _share_inside(edges: Edges, width: int, height: int) -> float:
    xmin, ymin, xmax, ymax = edges
    across = max(0.0, min(xmax, width) - max(xmin, 0.0)) / (xmax - xmin)
    down = max(0.0, min(ymax, height) - max(ymin, 0.0)) / (ymax - ymin)
    return across * down


def _whole(low: float, high: float, size: int) -> tuple[int, int]:
    # Clamp before rounding: an edge may be as large as a float allows.
    first = math.floor(min(max(low + 0.5, 0), size - 1))
    return first, math.floor(min(max(high + 0.5, first + 1), size))

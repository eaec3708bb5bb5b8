"""Compares the size that the API declares with the photo's real size, and adjusts the boxes.

docs/decisions/0023-declared-size.md
"""

from __future__ import annotations

from typing import NamedTuple

from cropline.core.failures import PhotoFailure
from cropline.core.keys import RESCALED
from fugue_jobs.imaging.geometry import Ratio, swaps_sides
from fugue_jobs.work import ImageWork

Size = tuple[int, int]


class Fit(NamedTuple):
    """Ratios that scale the x and y of pixel boxes to the decoded photo. ``flag`` reports that the sizes differ."""

    across: Ratio = (1, 1)
    down: Ratio = (1, 1)
    flag: str | None = None


_AS_DECLARED = Fit()


def fit_boxes(work: ImageWork, upright: Size, orientation: int, mode: str) -> Fit:
    """Return the fit of the boxes to a photo of this upright size (px) and EXIF orientation.

    Boxes are in the API's picture: upright or stored. ``mode``: PictureLimits.size_mismatch.
    Raise PhotoFailure size_mismatch. Boxes of 0..1 fit any size; a different aspect is flagged.
    """
    declared = work.declared
    if declared == upright or declared == (None, None):
        return _AS_DECLARED
    swapped = swaps_sides(orientation)
    measured = (upright[1], upright[0]) if swapped and work.orientation == "stored" else upright
    width, height = declared
    if width is None or height is None:
        return _half_declared(work, measured, mode)
    found = (width, height)
    if swapped and work.orientation == "stored" and not _same_aspect(found, measured):
        # The declared size may still be of the upright picture: the setting is only about the boxes.
        found = (height, width)
    if found == measured:
        return _AS_DECLARED
    same = _same_aspect(found, measured)
    if work.coordinates != "pixels":
        return _AS_DECLARED if same else Fit(flag="aspect_differs")
    if mode == "ignore":
        return Fit(flag="size_differs")
    if mode == "fail" or not same:
        raise PhotoFailure("size_mismatch", _said((width, height), measured, swapped))
    return Fit((measured[0], found[0]), (measured[1], found[1]), RESCALED)


def _half_declared(work: ImageWork, measured: Size, mode: str) -> Fit:
    """Handle a single declared side, which has no aspect: it must be the photo's own, or pixel boxes are undefined."""
    if all(side in (None, own) for side, own in zip(work.declared, measured, strict=True)):
        return _AS_DECLARED
    if work.coordinates != "pixels":
        return _AS_DECLARED
    if mode == "ignore":
        return Fit(flag="size_differs")
    width, height = ("?" if side is None else side for side in work.declared)
    raise PhotoFailure("size_mismatch", f"{width} x {height} px declared, the photo has {_size(measured)}")


def _same_aspect(one: Size, other: Size) -> bool:
    """Return whether one size is the other scaled. Rounding may shift each side of the smaller by a pixel."""
    (width, height), (across, down) = one, other
    return abs(width * down - height * across) <= max(width + height, across + down)


def _said(declared: Size, measured: Size, swapped: bool) -> str:
    text = f"{_size(declared)} declared, the photo has {_size(measured)}"
    if not _same_aspect((declared[1], declared[0]), measured):
        return text
    if swapped:
        return f"{text} upright: if the boxes are of the picture as stored, set CROPLINE_API__ORIENTATION=stored"
    return f"{text}: its sides are swapped, it was turned or has lost its EXIF orientation"


def _size(size: Size) -> str:
    return f"{size[0]} x {size[1]} px"

"""The size that the API declares of a photo against the size that it has, and what that means for its boxes.

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
    """How boxes in pixels come to the photo that was decoded: their x and y times these ratios. ``flag`` says that it differs."""

    across: Ratio = (1, 1)
    down: Ratio = (1, 1)
    flag: str | None = None


_AS_DECLARED = Fit()


def fit_boxes(work: ImageWork, upright: Size, orientation: int, mode: str) -> Fit:
    """The fit of this work's boxes to a photo of this upright size (px) and EXIF orientation.

    Boxes are measured in the picture as the API has it: upright, or stored. ``mode``: PictureLimits.size_mismatch.
    Raises PhotoFailure size_mismatch. Boxes of 0..1 fit any size; of another aspect they are flagged.
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
        # What is declared may be of the upright picture all the same: the boxes' own orientation is told by the setting.
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
    """One side alone tells no aspect: it is the photo's own, or nothing is known of the boxes."""
    if all(side in (None, own) for side, own in zip(work.declared, measured, strict=True)):
        return _AS_DECLARED
    if work.coordinates != "pixels":
        return _AS_DECLARED
    if mode == "ignore":
        return Fit(flag="size_differs")
    width, height = ("?" if side is None else side for side in work.declared)
    raise PhotoFailure("size_mismatch", f"{width} x {height} px declared, the photo has {_size(measured)}")


def _same_aspect(one: Size, other: Size) -> bool:
    """Whether one is the other scaled: each side of the smaller may be off by one pixel, since it was rounded."""
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

"""Chooses the decoding scale of a photo for each profile, and which profiles share a decode.

A profile's scale depends only on the photo, its boxes and that profile's recipe, which its fingerprint
covers. It does not depend on the other profiles or on settings. docs/decisions/0002-reduced-scale-decoding.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.declared import fit_boxes
from fugue_jobs.imaging.decode import Photo
from fugue_jobs.imaging.encode import Recipe, shrunk_size
from fugue_jobs.imaging.geometry import Placement, Region, place
from fugue_jobs.work import ImageWork

# A decode must be at least this many times larger per side than the crop: below 3 a difference shows.
_GAP = 3
# A reduced decode pays only for boxes that cover at least this share of the photo. Another profile may
# need the whole decode anyway, and then shrinking its crops costs less than a second decode.
_WORTH = 0.4
_SCALES = (8, 4, 2)


def passes(
    photo: Photo, work: ImageWork, recipes: Sequence[Recipe | PhotoFailure], size_mismatch: str
) -> Iterator[tuple[int, list[int]]]:
    """Yield (scale, numbers of the recipes) for each decode that the photo needs, the largest picture first."""
    # Not the setting's min_iou: a box that it refuses must not change the others' bytes.
    places = Places(photo, work, Placing(0.0, size_mismatch))
    scales = [_scale(photo, places, recipe) for recipe in recipes]
    for scale in sorted(set(scales)):
        yield scale, [number for number, own in enumerate(scales) if own == scale]


class Placing(NamedTuple):
    """The settings that decide where boxes are: see PictureLimits."""

    min_iou: float
    size_mismatch: str


class Places:
    """The places of a photo's boxes in the upright photo. Each is computed once; profiles of one padding share it.

    The photo's orientation must be known: of a format other than JPEG, its pixels are decoded first.
    """

    def __init__(self, photo: Photo, work: ImageWork, placing: Placing) -> None:
        self._photo, self._work, self._placing = photo, work, placing
        self._known: dict[tuple[int, float], tuple[Placement, str | None]] = {}

    def of(self, recipe: Recipe, index: int) -> tuple[Placement, str | None]:
        """Return a box's place, and a flag. Raise PhotoFailure size_mismatch or ``box_*``."""
        key = (index, recipe.padding)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._place(recipe.padding, index)
        return found

    def regions(self, recipe: Recipe) -> Iterator[Region]:
        """Yield the regions of the upright photo that become crops by this recipe."""
        for index in range(len(self._work.boxes)):
            try:
                region = self.of(recipe, index)[0].region
            except PhotoFailure:
                continue
            if min(region.width, region.height) >= recipe.min_side:
                yield region

    def _place(self, padding: float, index: int) -> tuple[Placement, str | None]:
        photo, work = self._photo, self._work
        width, height = photo.upright_size
        fit = fit_boxes(work, photo.upright_size, photo.orientation, self._placing.size_mismatch)
        placement = place(
            work.boxes[index],
            width,
            height,
            coordinates=work.coordinates,
            turned=photo.orientation if work.orientation == "stored" else 1,
            padding=padding,
            min_iou=self._placing.min_iou,
            across=fit.across,
            down=fit.down,
        )
        return placement, fit.flag


def _scale(photo: Photo, places: Places, recipe: Recipe | PhotoFailure) -> int:
    if isinstance(recipe, PhotoFailure) or recipe.max_side is None or not photo.can_scale:
        return 1
    found = list(places.regions(recipe))
    if sum(region.width * region.height for region in found) < _WORTH * photo.pixels:
        return 1
    return next((scale for scale in _SCALES if all(_spares(region, scale, recipe) for region in found)), 1)


def _spares(region: Region, scale: int, recipe: Recipe) -> bool:
    """Return whether the region, decoded at 1/scale, is still large enough for its crop."""
    width, height = shrunk_size(region.width, region.height, recipe.max_side)
    # Half a pixel, because the sides were rounded.
    return region.width >= _GAP * scale * (width - 0.5) and region.height >= _GAP * scale * (height - 0.5)

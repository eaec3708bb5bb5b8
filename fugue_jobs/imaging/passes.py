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
from fugue_jobs.imaging.geometry import Region, place, to_stored
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


class Placed(NamedTuple):
    """A box's place. ``region``: in the upright photo. ``stored``: the same pixels in the stored one. ``notes``: flags."""

    region: Region
    stored: Region
    notes: tuple[str, ...]


class Places:
    """The places of a photo's boxes. They are computed once for each padding.

    The photo's orientation must be known: of a format other than JPEG, its pixels are decoded first.
    """

    def __init__(self, photo: Photo, work: ImageWork, placing: Placing) -> None:
        self._photo, self._work, self._placing = photo, work, placing
        self._known: dict[float, list[Placed | PhotoFailure]] = {}

    def of(self, recipe: Recipe) -> list[Placed | PhotoFailure]:
        """Return for each box its place, or why it has none: size_mismatch or ``box_*``."""
        found = self._known.get(recipe.padding)
        if found is None:
            found = self._known[recipe.padding] = self._place_all(recipe.padding)
        return found

    def wanted(self, recipe: Recipe) -> list[Placed]:
        """Return the places that become crops by this recipe."""
        least = recipe.min_side
        return [
            placed
            for placed in self.of(recipe)
            if isinstance(placed, Placed) and min(placed.region.width, placed.region.height) >= least
        ]

    def _place_all(self, padding: float) -> list[Placed | PhotoFailure]:
        photo, work = self._photo, self._work
        width, height = size = photo.upright_size
        try:
            fit = fit_boxes(work, size, photo.orientation, self._placing.size_mismatch)
        except PhotoFailure as failure:
            return [failure.with_traceback(None)] * len(work.boxes)
        turned = photo.orientation if work.orientation == "stored" else 1
        sized = () if fit.flag is None else (fit.flag,)
        clipped = (*sized, "clipped")
        found: list[Placed | PhotoFailure] = []
        for box in work.boxes:
            try:
                region, is_clipped = place(
                    box,
                    width,
                    height,
                    coordinates=work.coordinates,
                    turned=turned,
                    padding=padding,
                    min_iou=self._placing.min_iou,
                    across=fit.across,
                    down=fit.down,
                )
            except PhotoFailure as failure:
                # Its traceback would keep the photo alive.
                found.append(failure.with_traceback(None))
            else:
                stored = to_stored(region, width, height, photo.orientation)
                found.append(Placed(region, stored, clipped if is_clipped else sized))
        return found


def _scale(photo: Photo, places: Places, recipe: Recipe | PhotoFailure) -> int:
    if isinstance(recipe, PhotoFailure) or recipe.max_side is None or not photo.can_scale:
        return 1
    found = [placed.region for placed in places.wanted(recipe)]
    if sum(region.width * region.height for region in found) < _WORTH * photo.pixels:
        return 1
    return next((scale for scale in _SCALES if all(_spares(region, scale, recipe) for region in found)), 1)


def _spares(region: Region, scale: int, recipe: Recipe) -> bool:
    """Return whether the region, decoded at 1/scale, is still large enough for its crop."""
    width, height = shrunk_size(region.width, region.height, recipe.max_side)
    # Half a pixel, because the sides were rounded.
    return region.width >= _GAP * scale * (width - 0.5) and region.height >= _GAP * scale * (height - 0.5)

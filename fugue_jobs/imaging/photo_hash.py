"""Builds the perceptual hash of a photo from samples of its crops.

No photo may be decoded whole, but every decoder returns the same pixels of its crops. The samples are those
of the brightness measure: a hash costs a two-hundredth of the cutting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, _imaging

from cropline.core.phash import CELLS, LETTERS, UNKNOWN

if TYPE_CHECKING:
    from fugue_jobs.imaging.measure import Sample
    from fugue_jobs.work import CropOutcome, ImageWork

_FINE = 8  # px per side of a cell while samples are put together
_SIDE = CELLS * _FINE


class PhotoHash:
    """Collects samples of a photo's crops as they are cut, and returns the hash."""

    def __init__(self, work: ImageWork) -> None:
        # An order for only some boxes would cover only a part of the photo.
        self._order = next((number for number, order in enumerate(work.orders) if order.only is None), None)
        self._found: list[tuple[CropOutcome, Sample]] = []
        self._size = (1, 1)

    def add(self, outcome: CropOutcome, sample: Sample | None, size: tuple[int, int]) -> None:
        """Add one crop of a photo of this upright size, px. ``sample``: see measure.py; None when nothing was cut."""
        if sample is not None and outcome.order == self._order:
            self._found.append((outcome, sample))
            self._size = size

    def hash(self) -> str | None:
        """Return the hash; None when no crop was added."""
        if not self._found:
            return None
        luma, seen = (side.convert("F").reduce(_FINE).tobytes() for side in self._put_together())
        cells = zip(memoryview(luma).cast("f"), memoryview(seen).cast("f"), strict=True)
        return "".join(LETTERS[int(value / share * 63.999)] if share >= 127.5 else UNKNOWN for value, share in cells)

    def _put_together(self) -> tuple[Image.Image, Image.Image]:
        """Return the luma of what was added, each sample in its place, and 255 where one is."""
        luma, seen = Image.new("L", (_SIDE, _SIDE)), Image.new("L", (_SIDE, _SIDE))
        width, height = self._size
        for outcome, sample in self._found:
            left, top = _fine(outcome.left, width), _fine(outcome.top, height)
            right, bottom = _fine(outcome.right, width), _fine(outcome.bottom, height)
            if right > left and bottom > top:
                # The core images: Image objects would cost twice as much as the steps.
                pixels = _imaging.map_buffer(sample.luma, sample.size, "raw", 0, ("L", 0, 1))
                place = (left, top, right, bottom)
                fine = pixels.resize((right - left, bottom - top), Image.Resampling.BOX, (0, 0, *sample.size))
                luma.im.paste(fine, place)
                seen.im.paste(255, place)
        return luma, seen


def _fine(edge: int | None, side: int) -> int:
    return round((edge or 0) * _SIDE / side)

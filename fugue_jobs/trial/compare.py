"""Compares pairs of crops: outcomes, sizes, brightness, pixels. Keeps the pictures of the worst only."""

from __future__ import annotations

import heapq
import io
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from fugue_jobs.trial.run import Pair
    from fugue_jobs.work import CropOutcome

# A pixel differs when a channel differs by more than this of 255: less is the noise of encoding twice.
_NOISE = 8


class Difference(NamedTuple):
    """What differs between the two crops of one box. ``pixels``: the share that differs; None without two crops."""

    image_id: str
    box_index: int
    label: str | None
    pixels: float | None
    resized: bool  # the crops have different sizes; pixels were compared at the current one's size

    @property
    def badness(self) -> float:
        """What orders a sheet: above 1 when only one recipe gave a crop."""
        return 2.0 if self.pixels is None else self.pixels


class Worst(NamedTuple):
    """A difference with both outcomes, the crops' bytes included."""

    difference: Difference
    current: CropOutcome
    tried: CropOutcome


@dataclass
class Side:
    """The sums of one recipe."""

    outcomes: Counter[str] = field(default_factory=Counter)  # written, skipped, or a reason
    bytes: int = 0
    area: int = 0  # px
    luminance: float = 0.0  # sum of the crops' means, 0 to 255
    values: dict[str, Counter[str]] = field(default_factory=dict)  # a step's column -> its values, as text

    @property
    def written(self) -> int:
        return self.outcomes["written"]

    def add(self, crop: CropOutcome) -> None:
        """Count one crop."""
        self.outcomes[crop.reason or crop.status] += 1
        if crop.status != "written":
            return
        self.bytes += crop.bytes or 0
        self.area += (crop.width or 0) * (crop.height or 0)
        self.luminance += crop.luminance or 0.0
        for name, value in (crop.values or {}).items():
            self.values.setdefault(name, Counter())[_short(value)] += 1


class Comparison:
    """Everything that a trial found so far. ``keep``: how many of the worst pairs keep their pictures."""

    def __init__(self, keep: int = 24) -> None:
        self.current, self.tried = Side(), Side()
        self.boxes = 0
        self.photos: set[str] = set()
        self.compared = self.changed = self.resized = 0
        self.pixels = 0.0  # sum of shares
        self._keep = keep
        self._worst: list[tuple[float, int, Worst]] = []
        self._numbers = itertools.count()

    def add(self, pair: Pair) -> None:
        """Add one box."""
        self.boxes += 1
        self.photos.add(pair.image["image_id"])
        self.current.add(pair.current)
        self.tried.add(pair.tried)
        found = compare(pair)
        if found.pixels is not None:
            self.compared += 1
            self.pixels += found.pixels
            self.changed += found.pixels > 0 or found.resized
            self.resized += found.resized
        if pair.current.status == pair.tried.status != "written":
            return
        # The number keeps the first of equals, and the tuples comparable.
        heapq.heappush(self._worst, (found.badness, -next(self._numbers), Worst(found, pair.current, pair.tried)))
        if len(self._worst) > self._keep:
            heapq.heappop(self._worst)

    @property
    def worst(self) -> list[Worst]:
        """The pairs that differ most, worst first."""
        return [worst for _, _, worst in sorted(self._worst, key=lambda each: each[:2], reverse=True)]


def compare(pair: Pair) -> Difference:
    """Return the difference of one pair."""
    pixels, resized = None, False
    if pair.current.data is not None and pair.tried.data is not None:
        pixels, resized = _pixels(pair.current, pair.tried)
    label = pair.image["boxes"][pair.box_index]["label"]
    return Difference(pair.image["image_id"], pair.box_index, label, pixels, resized)


def cut_of(crop: CropOutcome) -> Image.Image:
    """Return the pixels of the box, upright. A lossless crop is larger than its box, and may have a tag that turns it."""
    assert crop.data is not None
    with Image.open(io.BytesIO(crop.data)) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
    if crop.box_left is None or crop.box_top is None:
        return upright
    assert crop.left is not None
    assert crop.top is not None
    assert crop.right is not None
    assert crop.bottom is not None
    right, bottom = crop.box_left + crop.right - crop.left, crop.box_top + crop.bottom - crop.top
    return upright.crop((crop.box_left, crop.box_top, right, bottom))


def differing(current: Image.Image, tried: Image.Image) -> Any:
    """Return by how much each pixel differs, 0 to 255: the largest of its channels. Both have one size."""
    return np.abs(np.asarray(current, np.int16) - np.asarray(tried, np.int16)).max(axis=2)


def _pixels(current: CropOutcome, tried: CropOutcome) -> tuple[float, bool]:
    if current.data == tried.data:
        return 0.0, False
    before, after = cut_of(current), cut_of(tried)
    resized = before.size != after.size
    if resized:
        after = after.resize(before.size, Image.Resampling.LANCZOS)
    return float((differing(before, after) > _NOISE).mean()), resized


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"

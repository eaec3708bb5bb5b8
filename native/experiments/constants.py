"""MERGED and MARGIN of the product's plan, reduced scales, and the cost of skipping. Crops are compared with Pillow's.

Prints ms of CPU per photo, and Pillow's whole decode over it. The last lines count, over small JPEGs of every
sampling, crops that differ from Pillow's when bands are merged less: jpeg_skip_scanlines is not exact for
skips within an iMCU row.
"""

from __future__ import annotations

import io
import random
import sys
from pathlib import Path
from typing import Any

from cropline_regions import _plan
from PIL import Image
from ways import Box, Sums, bed, by_bands, kinds, least, pillow

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from jpegs import SAMPLINGS, sampled, whole

MERGED = (1, 16, 32, 64, 128)
MARGINS = (2, 8, 16, 32)


def crops(data: bytes, boxes: list[Box], *, merged: int = _plan.MERGED, margin: int = _plan.MARGIN) -> list[Any]:
    # The plan reads it from its module, so it can be changed only there.
    _plan.MERGED, held = merged, _plan.MERGED
    bands = by_bands(data, boxes, margin=margin)
    _plan.MERGED = held
    return bands


def differing(data: bytes, boxes: list[Box], expected: Image.Image, **options: int) -> int:
    different = 0
    for band, box in zip(crops(data, boxes, **options), boxes, strict=True):
        different += band.image(box).tobytes() != expected.crop(box).tobytes()
    return different


def reduced(data: bytes, scale: int) -> None:
    image = Image.open(io.BytesIO(data))
    image.draft(None, (image.width // scale, image.height // scale))
    image.load()


def smaller(boxes: list[Box], scale: int) -> list[Box]:
    return [(left // scale, top // scale, right // scale, bottom // scale) for left, top, right, bottom in boxes]


def of_the_bed() -> None:
    sums, different = Sums(), 0
    for photo in bed():
        data = photo.path.read_bytes()
        expected = pillow(data)
        last = [(0, photo.height - 1, 16, photo.height)]
        skipping = {"pillow": lambda: pillow(data), "all rows skipped": lambda: by_bands(data, last, margin=0)}
        sums.add("nothing", least(skipping))
        for kind, boxes in kinds(photo).items():
            steps: dict[str, Any] = {"pillow": lambda: pillow(data)}
            for merged in MERGED:
                steps[f"merged {merged}"] = lambda merged=merged, boxes=boxes: crops(data, boxes, merged=merged)
                different += differing(data, boxes, expected, merged=merged)
            sums.add(kind, least(steps))
            steps = {"pillow": lambda: pillow(data)}
            for margin in MARGINS:
                steps[f"margin {margin}"] = lambda margin=margin, boxes=boxes: crops(data, boxes, margin=margin)
                different += differing(data, boxes, expected, margin=margin)
            sums.add(f"{kind} ", least(steps))
            for scale in (2, 4, 8):
                small = smaller(boxes, scale)
                ways = {
                    "pillow": lambda scale=scale: reduced(data, scale),
                    "regions": lambda scale=scale, small=small: by_bands(data, small, scale=scale),
                }
                sums.add(f"{kind} 1/{scale}", least(ways))
    sums.show("pillow")
    print(f"{different} crops of the bed differ from Pillow's")


def of_every_sampling() -> None:
    chance = random.Random(1)
    for merged in MERGED:
        found: dict[str, int] = dict.fromkeys(SAMPLINGS, 0)
        for number in range(200):
            for kind in SAMPLINGS:
                data = sampled(40, 160, number, kind)
                tops = sorted(chance.sample(range(158), 4))
                boxes = [(0, top, 40, top + 2) for top in tops]
                # With a margin of 0 the bands are as near as the boxes; rows within a box need their neighbours from it.
                found[kind] += differing(data, boxes, whole(data), merged=merged, margin=0)
        print(f"merged {merged}, margin 0, of 800 crops of each sampling differ: {found}", flush=True)


if __name__ == "__main__":
    of_the_bed()
    of_every_sampling()

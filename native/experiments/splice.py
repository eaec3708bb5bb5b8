"""Each box as a small JPEG cut out of the photo's bits, then decoded by libjpeg: how much a walker of our own gives.

The crops' pixels are compared with Pillow's. ms of CPU a photo, and Pillow's whole decode over it.
"""

from __future__ import annotations

import ctypes
import random
import sys
from collections import Counter
from pathlib import Path

from cropline_regions import _regions, decode
from PIL import Image
from ways import LIBRARY, Box, Sums, bed, kinds, least, pillow, scratch

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from jpegs import SAMPLINGS, sampled, whole

MARGIN = (
    4  # chroma comes from the next sample, two pixels away, and otherwise where a row holds no more than two of them
)


class Splice:
    """A photo whose MCUs were found."""

    def __init__(self, data: bytes, bottom: int = 0) -> None:
        self.mcu = (ctypes.c_int * 2)()
        self._data = data
        self._out = scratch(len(data) + 4096)
        self._handle = ctypes.c_void_p(
            LIBRARY.splice_open(data, ctypes.c_size_t(len(data)), ctypes.c_int(bottom), self.mcu)
        )
        if not self._handle:
            raise ValueError("not a JPEG for this")

    def cut(self, mcus: Box, width: int, height: int) -> bytes:
        length = LIBRARY.splice_cut(self._handle, *mcus, width, height, self._out, ctypes.c_size_t(len(self._out)))
        if not length:
            raise ValueError("cannot be cut")
        return ctypes.string_at(self._out, length)

    def close(self) -> None:
        LIBRARY.splice_close(self._handle)


def decoded(data: bytes, boxes: list[Box], size: tuple[int, int]) -> list[Image.Image]:
    splice = Splice(data, min(size[1], max(box[3] for box in boxes) + MARGIN))
    try:
        return [decoded_one(splice, box, size) for box in boxes]
    finally:
        splice.close()


def decoded_one(splice: Splice, box: Box, size: tuple[int, int]) -> Image.Image:
    across, down = splice.mcu
    left, top = max(0, box[0] - MARGIN) // across, max(0, box[1] - MARGIN) // down
    right, bottom = min(size[0], box[2] + MARGIN), min(size[1], box[3] + MARGIN)
    width, height = right - left * across, bottom - top * down
    small = splice.cut((left, top, -(-right // across), -(-bottom // down)), width, height)
    mode, _, _, (pixels,) = _regions.decode(small, 1, (0, width), ((0, height),))
    x, y = left * across, top * down
    band = Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)
    return band.crop((box[0] - x, box[1] - y, box[2] - x, box[3] - y))


def of_every_sampling() -> int:
    """Crops that differ, over small JPEGs; half of them have optimised Huffman tables, which may lack a code."""
    chance = random.Random(5)
    ended: Counter[str] = Counter()
    for number in range(400):
        kind, width, height = chance.choice([*SAMPLINGS]), chance.randrange(1, 200), chance.randrange(1, 200)
        optimize = number % 2 == 1
        data = sampled(width, height, number, kind, quality=chance.randrange(20, 101), optimize=optimize)
        left, top = chance.randrange(width), chance.randrange(height)
        box = left, top, min(width, left + chance.randrange(1, 50)), min(height, top + chance.randrange(1, 50))
        try:
            crop = decoded(data, [box], (width, height))[0].convert("RGB")
        except ValueError:
            ended["cannot be cut, optimised" if optimize else "cannot be cut"] += 1
        else:
            ended["equal" if crop.tobytes() == whole(data).crop(box).tobytes() else "differ"] += 1
    print(f"small JPEGs of every sampling: {dict(ended)}")
    return ended["differ"]


def main() -> None:
    sums, different, count = Sums(), 0, 0
    for photo in bed():
        data, size = photo.path.read_bytes(), (photo.width, photo.height)
        whole = pillow(data)
        for kind, boxes in kinds(photo).items():
            for crop, box in zip(decoded(data, boxes, size), boxes, strict=True):
                count += 1
                different += crop.convert("RGB").tobytes() != whole.crop(box).tobytes()
            sums.add(
                kind,
                least(
                    {
                        "pillow": lambda: pillow(data),
                        "regions": lambda boxes=boxes: decode(data, boxes),
                        "spliced": lambda boxes=boxes: decoded(data, boxes, size),
                        "walk alone": lambda boxes=boxes: Splice(data, max(box[3] for box in boxes)).close(),
                    }
                ),
            )
    sums.show("pillow")
    print(f"{different} of {count} crops differ from Pillow's")
    sys.exit(different + of_every_sampling() > 0)


if __name__ == "__main__":
    main()

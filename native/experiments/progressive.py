"""Progressive JPEGs: bands by crop and skip of scanlines, which the product refuses, against Pillow's whole decode.

The bed's photos are rewritten as progressive, coefficient for coefficient. Prints ms of CPU per photo. libjpeg's
peak memory is all coefficients in both cases.
"""

from __future__ import annotations

import ctypes
import sys

from PIL import Image
from rewritten import rewritten
from ways import LIBRARY, Box, Sums, bed, by_bands, kinds, least, pillow, plan, scratch


def bands(data: bytes, boxes: list[Box], size: tuple[int, int]) -> list[Image.Image]:
    """Return the crops."""
    (left, right), rows = plan(boxes, *size)
    flat = [edge for row in rows for edge in row]
    columns = (ctypes.c_int * 2)(left, right - left)
    out = scratch(4 * size[0] * size[1])
    LIBRARY.bands(data, ctypes.c_size_t(len(data)), columns, (ctypes.c_int * len(flat))(*flat), len(rows), out)
    found, at = [], 0
    for top, bottom in rows:
        length = 4 * columns[1] * (bottom - top)
        memory = memoryview(out)[at : at + length]
        image = Image.frombuffer("RGBX", (columns[1], bottom - top), memory, "raw", "RGBX", 0, 1)
        found.append((top, bottom, image))
        at += length
    crops = []
    for box in boxes:
        top, image = next((top, image) for top, bottom, image in found if top <= box[1] and box[3] <= bottom)
        crops.append(image.crop((box[0] - columns[0], box[1] - top, box[2] - columns[0], box[3] - top)))
    return crops


def main() -> None:
    sums, sizes, different = Sums(), Sums(), 0
    for photo in bed():
        baseline, size = photo.path.read_bytes(), (photo.width, photo.height)
        data = rewritten(baseline, progressive=True)
        whole = pillow(data)
        sizes.add("KB", {"baseline": len(baseline) / 1e3, "progressive": len(data) / 1e3})
        for kind, boxes in kinds(photo).items():
            crops = zip(bands(data, boxes, size), boxes, strict=True)
            different += sum(crop.convert("RGB").tobytes() != whole.crop(box).tobytes() for crop, box in crops)
            sums.add(
                kind,
                least(
                    {
                        "pillow": lambda: pillow(data),
                        "bands": lambda boxes=boxes: bands(data, boxes, size),
                        "baseline by Pillow": lambda: pillow(baseline),
                        "baseline by regions": lambda boxes=boxes: by_bands(baseline, boxes),
                    }
                ),
            )
    sums.show("pillow")
    sizes.show("baseline")
    print(f"{different} crops differ from Pillow's")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()

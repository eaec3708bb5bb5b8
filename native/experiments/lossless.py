"""Crops without a second JPEG generation: MCUs of the photo written as files, against decoding and encoding.

Left and top edges move out to whole MCUs; right and bottom edges stay. Two methods: all coefficients are
read and each box's are written (jpegtran's), or the boxes' bits are copied (splicing.c). Prints ms of CPU
per photo, sizes, and PSNR of the decoded and encoded crops.
"""

from __future__ import annotations

import ctypes
import math
import sys

from PIL import Image, ImageChops, ImageStat
from rewritten import Coefficients
from ways import LIBRARY, Box, Sums, bed, by_bands, jpeg, kinds, least, pillow, scratch

MCU = 16  # the bed's photos are 4:2:0
EDGE = 2  # pixels at a new edge whose chroma is interpolated without its neighbour
QUALITY = 90  # of the default profile


class Splice:
    """A photo with known positions of its MCUs."""

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


def recoded_crops(data: bytes, boxes: list[Box]) -> list[bytes]:
    """Decode and encode as the product does: by Pillow's whole decode where bands would not pay."""
    whole = pillow(data)
    return [jpeg(whole.crop(box), quality=QUALITY) for box in boxes]


def coded_anew_of_bands(data: bytes, boxes: list[Box]) -> list[bytes]:
    return [jpeg(band.image(box), quality=QUALITY) for band, box in zip(by_bands(data, boxes), boxes, strict=True)]


def by_coefficients(data: bytes, boxes: list[Box], *, optimize: bool) -> list[bytes]:
    whole = Coefficients(data)
    found = [
        whole.cut(left // MCU, top // MCU, right - left // MCU * MCU, bottom - top // MCU * MCU, optimize=optimize)
        for left, top, right, bottom in boxes
    ]
    whole.close()
    return found


def by_bits(data: bytes, boxes: list[Box]) -> list[bytes]:
    splice = Splice(data, max(box[3] for box in boxes))
    found = []
    for left, top, right, bottom in boxes:
        x, y = left // MCU, top // MCU
        mcus = (x, y, -(-right // MCU), -(-bottom // MCU))
        found.append(splice.cut(mcus, right - x * MCU, bottom - y * MCU))
    splice.close()
    return found


def differs(crop: bytes, whole: Image.Image, box: Box) -> bool:
    """Return whether pixels further than EDGE from a new edge differ from the photo's."""
    mine = pillow(crop)
    x, y = box[0] // MCU * MCU, box[1] // MCU * MCU
    inner = (EDGE, EDGE, mine.width - EDGE, mine.height - EDGE)
    theirs = whole.crop((x, y, box[2], box[3]))
    return mine.size != theirs.size or mine.crop(inner).tobytes() != theirs.crop(inner).tobytes()


def widened(box: Box) -> float:
    """Return the lossless crop's area over the box's."""
    left, top, right, bottom = box
    return (right - left // MCU * MCU) * (bottom - top // MCU * MCU) / ((right - left) * (bottom - top))


def psnr(crop: bytes, expected: Image.Image) -> float:
    error = ImageStat.Stat(ImageChops.difference(pillow(crop), expected)).sum2
    return 10 * math.log10(255**2 * 3 * expected.width * expected.height / max(1, sum(error)))


def main() -> None:
    sums, sizes, different, quality, area = Sums(), Sums(), 0, [], []
    for photo in bed():
        data, whole = photo.path.read_bytes(), pillow(photo.path.read_bytes())
        for kind, boxes in kinds(photo).items():
            recoded, bits = recoded_crops(data, boxes), by_bits(data, boxes)
            plain, small = (by_coefficients(data, boxes, optimize=optimize) for optimize in (False, True))
            for lossless in (bits, plain, small):
                different += sum(differs(crop, whole, box) for crop, box in zip(lossless, boxes, strict=True))
            quality += [psnr(crop, whole.crop(box)) for crop, box in zip(recoded, boxes, strict=True)]
            area += [widened(box) for box in boxes]
            ways = {"recoded": recoded, "lossless": plain, "optimized": small, "by bits": bits}
            sizes.add(f"KB, {kind}", {way: sum(map(len, crops)) / 1e3 for way, crops in ways.items()})
            sums.add(
                kind,
                least(
                    {
                        "pillow + encode": lambda boxes=boxes: recoded_crops(data, boxes),
                        "regions + encode": lambda boxes=boxes: coded_anew_of_bands(data, boxes),
                        "coefficients": lambda boxes=boxes: by_coefficients(data, boxes, optimize=False),
                        "optimized": lambda boxes=boxes: by_coefficients(data, boxes, optimize=True),
                        "by bits": lambda boxes=boxes: by_bits(data, boxes),
                    }
                ),
            )
    sums.show("pillow + encode")
    sizes.show("recoded")
    print(
        f"area {sum(area) / len(area):.2f} x the boxes'; recoded: PSNR mean {sum(quality) / len(quality):.1f} dB, ",
        end="",
    )
    print(f"least {min(quality):.1f} dB; lossless: {different} crops differ from the photo's pixels")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()

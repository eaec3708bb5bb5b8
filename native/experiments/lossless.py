"""Crops without a second JPEG generation: MCUs of the photo written as files, against decoding and encoding.

Left and top edges move out to whole MCUs; right and bottom ones stay. Two ways: all coefficients read and each box's written
(jpegtran's), and the boxes' bits copied (splice.py). ms of CPU a photo; sizes; PSNR of the decoded-and-encoded crops.
"""

from __future__ import annotations

import math
import sys

from cropline_regions import decode
from PIL import Image, ImageChops, ImageStat
from rewritten import Coefficients
from splice import Splice
from ways import Box, Sums, bed, jpeg, kinds, least, pillow

MCU = 16  # the bed's photos are 4:2:0
EDGE = 2  # pixels at a new edge whose chroma is interpolated without its neighbour
QUALITY = 90  # of the default profile


def coded_anew(data: bytes, boxes: list[Box]) -> list[bytes]:
    """As the product does: Pillow's whole decode where bands would not pay."""
    whole = pillow(data)
    return [jpeg(whole.crop(box), quality=QUALITY) for box in boxes]


def coded_anew_of_bands(data: bytes, boxes: list[Box]) -> list[bytes]:
    bands = decode(data, boxes)
    found = []
    for box in boxes:
        band = next(band for band in bands if band.top <= box[1] and box[3] <= band.top + band.height)
        x, y = band.left, band.top
        crop = band.image().crop((box[0] - x, box[1] - y, box[2] - x, box[3] - y))
        found.append(jpeg(crop.convert("RGB"), quality=QUALITY))
    return found


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
    """Whether pixels further than EDGE from a new edge are not the photo's."""
    mine = pillow(crop)
    x, y = box[0] // MCU * MCU, box[1] // MCU * MCU
    inner = (EDGE, EDGE, mine.width - EDGE, mine.height - EDGE)
    theirs = whole.crop((x, y, box[2], box[3]))
    return mine.size != theirs.size or mine.crop(inner).tobytes() != theirs.crop(inner).tobytes()


def widened(box: Box) -> float:
    """The lossless crop's area over the box's."""
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
            anew, bits = coded_anew(data, boxes), by_bits(data, boxes)
            plain, small = (by_coefficients(data, boxes, optimize=optimize) for optimize in (False, True))
            for lossless in (bits, plain, small):
                different += sum(differs(crop, whole, box) for crop, box in zip(lossless, boxes, strict=True))
            quality += [psnr(crop, whole.crop(box)) for crop, box in zip(anew, boxes, strict=True)]
            area += [widened(box) for box in boxes]
            ways = {"anew": anew, "lossless": plain, "optimized": small, "by bits": bits}
            sizes.add(f"KB, {kind}", {way: sum(map(len, crops)) / 1e3 for way, crops in ways.items()})
            sums.add(
                kind,
                least(
                    {
                        "pillow + encode": lambda boxes=boxes: coded_anew(data, boxes),
                        "regions + encode": lambda boxes=boxes: coded_anew_of_bands(data, boxes),
                        "coefficients": lambda boxes=boxes: by_coefficients(data, boxes, optimize=False),
                        "optimized": lambda boxes=boxes: by_coefficients(data, boxes, optimize=True),
                        "by bits": lambda boxes=boxes: by_bits(data, boxes),
                    }
                ),
            )
    sums.show("pillow + encode")
    sizes.show("anew")
    print(
        f"area {sum(area) / len(area):.2f} x the boxes'; coded anew: PSNR mean {sum(quality) / len(quality):.1f} dB, ",
        end="",
    )
    print(f"least {min(quality):.1f} dB; lossless: {different} crops differ from the photo's pixels")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()

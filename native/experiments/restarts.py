"""Photos with restart markers: only the intervals that boxes need are given to libjpeg.

The bed's photos are rewritten, coefficient for coefficient, with a marker after every MCU row, or several per
row, which lets columns be left out too. Prints ms of CPU per photo, and Pillow's whole decode over it; file
sizes. Pixels are compared.
"""

from __future__ import annotations

import ctypes
import sys

from cropline_regions import Band, _regions
from PIL import Image
from rewritten import rewritten
from ways import LIBRARY, PHOTOS, Box, Sums, by_bands, kinds, least, pillow, plan, scratch

from benchmarks.bed import draw_bed

MCU = 16  # the bed's photos are 4:2:0
MARGIN = 4


class Picked:
    """A photo's wanted MCU rows, decoded below each other."""

    def __init__(self, data: bytes, boxes: list[Box], size: tuple[int, int], interval: int) -> None:
        """interval: MCUs; 0 takes whole MCU rows."""
        (left, right), bands = plan(boxes, *size, margin=MARGIN)
        across, down = size[0] // MCU, size[1] // MCU
        first, last = (
            (left // MCU // interval * interval, right // MCU // interval * interval + interval)
            if interval
            else (0, across)
        )
        self.left, last = first * MCU, min(last, across)
        rows = _joined([(top // MCU, min(down, -(-bottom // MCU))) for top, bottom in bands])
        self.tops: list[tuple[int, int, int]] = []
        height = 0
        for top, bottom in rows:
            self.tops.append((top * MCU, bottom * MCU, height))
            height += (bottom - top) * MCU
        width = (last - first) * MCU
        self.stream = _stream(data, first, last, rows, width, height)
        left, right = max(0, left - self.left), min(width, right - self.left)
        room = bytearray(4 * (right - left + MCU) * (height + 1))
        mode, began, width = _regions.decode(self.stream, 1, (left, right), ((0, height),), room)
        self.band = Band(self.left + began, 0, width, height, mode, room, 0)

    def crop(self, box: Box) -> Image.Image:
        moved = next(y - top for top, bottom, y in self.tops if top <= box[1] and box[3] <= bottom)
        return self.band.image((box[0], box[1] + moved, box[2], box[3] + moved))


def _joined(rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for top, bottom in rows:
        if found and top <= found[-1][1]:
            found[-1] = found[-1][0], max(bottom, found[-1][1])
        else:
            found.append((top, bottom))
    return found


def _stream(data: bytes, first: int, last: int, rows: list[tuple[int, int]], width: int, height: int) -> bytes:
    flat = [edge for row in rows for edge in row]
    out = scratch(len(data) + 64)
    length = LIBRARY.restart_stream(
        data, ctypes.c_size_t(len(data)), first, last, (ctypes.c_int * len(flat))(*flat), len(rows), width, height,
        out, ctypes.c_size_t(len(out)),
    )  # fmt: skip
    if not length:
        raise ValueError("no such intervals")
    return ctypes.string_at(out, length)


def interval_of(width: int) -> int | None:
    """Return MCUs per interval: a row has a whole number of intervals, of 6 to 40 MCUs each."""
    return next((number for number in range(6, 41) if width // MCU % number == 0), None)


def main() -> None:
    sums, sizes, different = Sums(), Sums(), 0
    for photo in [photo for photo in draw_bed(3 * PHOTOS) if interval_of(photo.width)][:PHOTOS]:
        data, size = photo.path.read_bytes(), (photo.width, photo.height)
        whole, interval = pillow(data), interval_of(photo.width) or 0
        plain, rows = rewritten(data), rewritten(data, restart_rows=1)
        within = rewritten(data, restart_blocks=interval)
        sizes.add("KB", {"plain": len(plain) / 1e3, "rows": len(rows) / 1e3, "within rows": len(within) / 1e3})
        for kind, boxes in kinds(photo).items():
            for written, every in ((rows, 0), (within, interval)):
                picked = Picked(written, boxes, size, every)
                different += sum(picked.crop(box).tobytes() != whole.crop(box).tobytes() for box in boxes)
            sums.add(
                kind,
                least(
                    {
                        "pillow": lambda: pillow(rows),
                        "regions": lambda boxes=boxes: by_bands(rows, boxes),
                        "rows": lambda boxes=boxes: Picked(rows, boxes, size, 0),
                        "within rows": lambda boxes=boxes: Picked(within, boxes, size, interval),
                    }
                ),
            )
    sums.show("pillow")
    sizes.show("plain")
    print(f"{different} crops differ from Pillow's")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()

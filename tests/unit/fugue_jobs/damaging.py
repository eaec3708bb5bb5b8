"""Photos with known damage, and the expected outcome of their boxes: one letter per box.

.  written, no flag      d  written, damaged_photo     e  written, end_damaged
-  failed, damaged_pixels   X  written with other pixels than the whole photo's
"""

import random
import struct
import sys
import zlib
from functools import cache

from PIL import Image

from cropline.core.failures import PhotoFailure
from fugue_jobs.work import Box
from tests.photos import encoded
from tests.unit.fugue_jobs.imaging.cutting import cuts, work_for
from tests.unit.fugue_jobs.imaging.forged import chunk

WIDTH, HEIGHT = 208, 320
# Ten boxes from top to bottom, alternately left and right.
BOXES = [Box(f"b{n}", 0.05 + 0.5 * (n % 2), n / 10 + 0.01, 0.4 + 0.5 * (n % 2), n / 10 + 0.09) for n in range(10)]
_LETTERS = {None: ".", "damaged_photo": "d", "end_damaged": "e"}


@cache
def picture() -> Image.Image:
    """Return noise, so that any changed bit of its file changes pixels."""
    noise = Image.frombytes("RGB", (WIDTH, HEIGHT), random.Random(5).randbytes(WIDTH * HEIGHT * 3))
    return Image.blend(noise.resize((52, 80)).resize((WIDTH, HEIGHT)), noise, 0.2)


@cache
def jpeg(kind: str) -> bytes:
    options = {
        "420": {"quality": 90},
        "444": {"quality": 80, "subsampling": 0},
        "optimised": {"quality": 75, "optimize": True},
        "restarts": {"quality": 90, "restart_marker_rows": 1},
        "short restarts": {"quality": 90, "restart_marker_blocks": 3},
        "progressive": {"quality": 85, "progressive": True},
    }
    if kind == "grey":
        return encoded(picture().convert("L"), quality=90)
    if kind == "without tables":
        return jpeg("420").replace(b"\xff\xc4", b"\xff\xfe")
    if kind == "a broken header":
        return jpeg("420").replace(b"\xff\xc4", b"\0\xc4", 1)
    if kind == "CMYK":
        return encoded(picture().convert("CMYK"), quality=90)
    return encoded(picture(), **options[kind])


def coded(data: bytes) -> int:
    """Return where the coded data of a JPEG of one scan begin."""
    at = data.rindex(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def damaged(data: bytes, how: str, share: float = 0.55) -> bytes:
    """Return the JPEG damaged in this way, at this share of its coded data."""
    begin = coded(data)
    at = begin + int((len(data) - begin) * share)
    rest = len(data) - at
    return {
        "whole": data,
        "cut off": data[:at],
        "cut off, with an end marker": data[:at] + b"\xff\xd9",
        "zeros to the end": data[:at] + bytes(rest),
        "zeros and an end marker": data[:at] + bytes(rest - 2) + b"\xff\xd9",
        "ones to the end": data[:at] + b"\xff" * rest,
        "a hole of zeros": data[:at] + bytes(300) + data[at + 300 :],
        "garbage": data[:at] + random.Random(7).randbytes(300) + data[at + 300 :],
        "bytes missing": data[:at] + data[at + 250 :],
        "no end marker": data[:-2],
        "half an end marker": data[:-1],
        "zeros for the end marker": data[:-2] + bytes(40),
        "filled before its end marker": data[:-2] + bytes(6) + b"\xff\xd9",
    }[how]


def told(good: bytes, data: bytes) -> str:
    """Return the letters of the boxes, or the reason why the whole photo failed."""
    wanted = _crops(good)
    try:
        found = cuts(data, work_for(*BOXES))
    except PhotoFailure as failure:
        return failure.code
    return "".join(
        _letter(cut.outcome.reason, cut.outcome.flags, cut.data == own) for cut, own in zip(found, wanted, strict=True)
    )


@cache
def _crops(good: bytes) -> list[bytes | None]:
    return [cut.data for cut in cuts(good, work_for(*BOXES))]


def _letter(reason: str | None, flags: str | None, same: bool) -> str:
    if reason is not None:
        return "-" if reason == "damaged_pixels" else f"[{reason}]"
    return _LETTERS[flags] if same else "X"


def png(stream: bytes, size: int = 4096, *, interlaced: bool = False) -> bytes:
    """Return an RGB PNG of these compressed bytes, in IDAT chunks of this size."""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, interlaced)
    pieces = [chunk(b"IDAT", stream[at : at + size]) for at in range(0, len(stream), size)]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(pieces) + chunk(b"IEND", b"")


def rows(first: int, end: int) -> bytes:
    """Return these rows of the picture, unfiltered."""
    return b"".join(b"\0" + picture().crop((0, row, WIDTH, row + 1)).tobytes() for row in range(first, end))


def in_passes() -> bytes:
    """Return all rows, interlaced."""
    found = b""
    for left, top, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ):  # fmt: skip
        data = picture().tobytes()
        for row in range(top, HEIGHT, down):
            line = data[3 * WIDTH * row : 3 * WIDTH * (row + 1)]
            found += b"\0" + b"".join(line[3 * x : 3 * x + 3] for x in range(left, WIDTH, across))
    return found


def packed(data: bytes) -> bytes:
    return zlib.compress(data, 6)


KINDS = ("420", "444", "optimised", "restarts", "short restarts", "grey", "CMYK", "without tables", "a broken header")
HOW = (
    "whole", "cut off", "cut off, with an end marker", "zeros to the end", "zeros and an end marker", "ones to the end",
    "a hole of zeros", "garbage", "bytes missing", "no end marker", "half an end marker", "zeros for the end marker",
    "filled before its end marker",
)  # fmt: skip


def all_told() -> dict[str, str]:
    return {f"{kind}, {how}": told(jpeg(kind), damaged(jpeg(kind), how)) for kind in KINDS for how in HOW}


if __name__ == "__main__":
    import json

    sys.modules["cropline_regions"] = None  # type: ignore[assignment]
    print(json.dumps(all_told()))

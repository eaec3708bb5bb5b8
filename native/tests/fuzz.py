"""Mutated JPEGs, decoded by the extension and by Pillow: ``python tests/fuzz.py --seconds 600 --seed 1``.

Each case is determined by the seed and its number. It must be decoded to Pillow's pixels, or refused with
Undecoded. What Pillow fails on must be refused. Anything else ends the run with status 1 and stores the
case in build/; after a crash its number is there. ``--only N`` repeats one case.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import random
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cropline_regions as regions
import plain
from jpegs import LOSSLESS, SAMPLINGS, adobe, drawn, jpeg, layered, sampled, whole
from PIL import Image

PIXELS = 2_000_000  # larger headers are not decoded whole: that would only measure Pillow
BUILD = Path(__file__).parents[1] / "build"


def corpus(chance: random.Random) -> list[bytes]:
    """Return JPEGs of all accepted and refused kinds, small ones, so that a case takes a millisecond."""
    found = [
        sampled(chance.randrange(1, 130), chance.randrange(1, 130), number, kind, restart=restart, optimize=optimize)
        for number, kind in enumerate(SAMPLINGS)
        for restart in (0, 2)
        for optimize in (False, True)
    ]
    exif = Image.Exif()
    exif[0x0112] = 6
    found.append(jpeg(drawn(90, 70, 1), exif=exif, comment=b"here", icc_profile=bytes(500)))
    found += [
        adobe(found[0], 0),
        jpeg(drawn(90, 70, 1), keep_rgb=True, exif=exif),
        layered(70, 90, 1, [(2, 2)], restart=3),
    ]
    found += [layered(70, 90, 1, factors) for factors in (((1, 1), (2, 2), (1, 1)), ((2, 4), (1, 1), (1, 1)))]
    # A thumbnail in its EXIF block, and a second picture after it.
    found.append(jpeg(drawn(90, 70, 1), exif=exif.tobytes() + jpeg(drawn(20, 20, 1))) + found[0])
    found += [
        jpeg(drawn(90, 70, 1, "L")),
        jpeg(drawn(90, 70, 1), progressive=True),
        jpeg(drawn(40, 40, 1, "CMYK")),
        LOSSLESS,
    ]
    return found


def flip(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at : at + chance.randrange(1, 5)] = chance.randbytes(chance.randrange(1, 5))


def head(data: bytearray, chance: random.Random) -> None:
    """Change a byte of the segments, which have sizes, tables and samplings."""
    data[chance.randrange(2, min(len(data), 700))] = chance.choice([0, 1, 2, 4, 8, 0x11, 0x22, 0x7F, 0x80, 0xFF])


def frame(data: bytearray, chance: random.Random) -> None:
    at = max(data.find(b"\xff\xc0"), 0)
    if at + 19 < len(data):
        data[at + chance.randrange(1, 19)] = chance.randrange(256)


def cut_off(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(2, len(data)) :]


def cut_out(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(2, len(data))
    del data[at : at + chance.randrange(1, 200)]


def repeat(data: bytearray, chance: random.Random) -> None:
    at, length = chance.randrange(len(data)), chance.randrange(1, 300)
    data[at:at] = data[at : at + length]


def marker(data: bytearray, chance: random.Random) -> None:
    """Insert a misplaced marker, perhaps with a segment."""
    at = chance.randrange(2, len(data))
    segment = struct.pack(">BBH", 0xFF, chance.randrange(0xC0, 0x100), chance.choice([0, 1, 2, 4, 70, 65535]))
    data[at:at] = segment[: chance.choice([2, 4])]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    overwrite,
    head,
    frame,
    cut_off,
    cut_out,
    repeat,
    marker,
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 4, 8])):
        if len(changed) > 4:
            chance.choice(MUTATIONS)(changed, chance)
    return bytes(changed)


def boxes_in(width: int, height: int, chance: random.Random) -> list[tuple[int, int, int, int]]:
    boxes = []
    for _ in range(chance.randrange(1, 4)):
        left, top = chance.randrange(width), chance.randrange(height)
        boxes.append((left, top, chance.randrange(left + 1, width + 1), chance.randrange(top + 1, height + 1)))
    return boxes


def try_pieces(data: bytes, chance: random.Random) -> str:
    """Write rectangles as files. Their pixels are Pillow's, 2 px at the edges aside; turned ones can be decoded."""
    try:
        width, height = regions.size(data)
        pieces = regions.Pieces(data, chance.randrange(1, min(height, 4096) + 1))
    except regions.Undecoded as refused:
        return f"{refused.reason}, pieces"
    small = width * height <= PIXELS
    expected = whole(data) if small else None
    for box in boxes_in(min(width, 512), min(height, 512), chance):
        outer = pieces.outer(box)
        turn = regions.Turn(*(chance.random() < 0.5 for _ in range(3)))
        turning = pieces.turning(box, turn)
        try:
            pieces.levels(outer)
            pieces.grey(outer)
            if min(box[2] - box[0], box[3] - box[1]) >= 3:
                pieces.edges(box)
            file = whole(pieces.file(outer, b"\xff\xfe\x00\x03!"))
            turned = None if turning is None else pieces.turned(turning, turn)
        except (regions.Undecoded, ValueError):
            continue  # below the last row; or coefficients that no encoder may write
        assert file.size == (outer[2] - outer[0], outer[3] - outer[1])
        assert turning is None or turned is None or whole(turned).size == turning.size
        if expected is not None and min(file.size) > 4:
            inner = (2, 2, file.width - 2, file.height - 2)
            assert file.crop(inner).tobytes() == expected.crop(outer).crop(inner).tobytes(), outer
    return "pieces"


def try_case(data: bytes, chance: random.Random) -> str:
    """Return the result of a case. Raise AssertionError when the promise is broken, and any other error."""
    if chance.random() < 0.5:
        return try_pieces(data, chance)
    scale = chance.choice([1, 1, 1, 2, 4, 8])
    way = chance.choice(["cuts", "cuts", "bands", None])
    margin = chance.choice([regions.MARGIN, regions.MARGIN, 9, 2, 0])
    try:
        width, height = regions.size(data, scale=scale)
        if width * height > PIXELS:
            boxes = boxes_in(min(width, 64), min(height, 64), chance)
            regions.decode(data, boxes, scale=scale, margin=margin, way=way)
            return "too large to compare"
        boxes = boxes_in(width, height, chance)
        bands = regions.decode(data, boxes, scale=scale, margin=margin, way=way)
    except regions.Undecoded as refused:
        return f"{refused.reason}, {way}"
    try:
        expected = whole(data, scale)
    except Exception as error:
        raise AssertionError(f"decoded what Pillow fails on with {type(error).__name__}: {error}") from error
    assert expected.size == (width, height)
    # Without a margin chroma at the edges is not exact: such a decode must only do no harm.
    exact = margin >= (regions.MARGIN if way == "cuts" else 2)
    for box, band in zip(boxes, bands, strict=True):
        view = band.image(box)
        assert not exact or view.tobytes() == expected.crop(box).tobytes(), box
        measured = view.measured(32, 40)
        assert measured is None or measured == plain.measured(view, 32, 40), box
    return f"decoded, {way}"


def leaks() -> bool:
    """Return whether the leak sanitizer, if present, finds unreachable memory."""
    check = getattr(ctypes.CDLL(None), "__lsan_do_recoverable_leak_check", None)
    return bool(check and check())


def fuzz(seconds: float, seed: int, only: int | None) -> bool:
    """Return whether every case kept the promise."""
    pictures = corpus(random.Random(seed))
    BUILD.mkdir(exist_ok=True)
    ended: Counter[str] = Counter()
    end = time.monotonic() + seconds
    number = only or 0
    with (BUILD / "fuzz-at").open("w+b") as file:
        file.write(bytes(8))
        file.flush()
        at = mmap.mmap(file.fileno(), 8)
        while time.monotonic() < end:
            at[:] = struct.pack("<q", number)
            chance = random.Random(f"{seed}-{number}")
            data = mutated(chance.choice(pictures), chance)
            try:
                ended[try_case(data, chance)] += 1
            except Exception as error:
                (BUILD / f"fuzz-{seed}-{number}.jpg").write_bytes(data)
                print(f"case {number}: {type(error).__name__}: {error}", flush=True)
                return False
            if only is not None:
                break
            number += 1
    print(f"{number} cases: {dict(ended.most_common())}", flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"seed {options.seed}, {options.seconds:g} s, {regions.__file__}", flush=True)
    if not fuzz(options.seconds, options.seed, options.only):
        return 1
    # Here and not there: the sanitizer cannot see the variables of a running function.
    if leaks():
        print("memory leaked", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

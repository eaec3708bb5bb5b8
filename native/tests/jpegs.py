"""JPEGs for the tests and the fuzzer: all accepted and refused kinds, drawn by a seed, written by Pillow.

Pillow writes 4:4:4, 4:2:2 and 4:2:0. The other samplings are grey JPEGs with a replaced header: the same
blocks are then read as luma and chroma of another layout, with random colours.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageFile

# For small pictures of noise with optimised tables Pillow expects too few bytes, and fails to save them.
ImageFile.MAXBLOCK = 1 << 20

# Sampling factors of the luma; an MCU has their product of luma blocks, and two of chroma.
SAMPLINGS = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "440": (1, 2), "411": (4, 1), "410": (4, 2), "441": (1, 4)}
_WRITTEN = {"444": 0, "422": 1, "420": 2}


def drawn(width: int, height: int, seed: int, mode: str = "RGB") -> Image.Image:
    """Return noise on coloured fields: every block has high frequencies and its own colour."""
    chance = random.Random(seed)
    bands = len(mode)
    fields = Image.frombytes(mode, (5, 5), chance.randbytes(25 * bands)).resize((width, height), 0)
    return Image.blend(fields, Image.frombytes(mode, (width, height), chance.randbytes(width * height * bands)), 0.2)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def sampled(width: int, height: int, seed: int, sampling: str, *, restart: int = 0, **options: Any) -> bytes:
    """Return a colour JPEG with this chroma subsampling and a restart marker after every ``restart`` MCUs."""
    if sampling in _WRITTEN:
        return jpeg(
            drawn(width, height, seed), subsampling=_WRITTEN[sampling], restart_marker_blocks=restart, **options
        )
    return layered(width, height, seed, (SAMPLINGS[sampling], (1, 1), (1, 1)), restart=restart, **options)


def layered(
    width: int, height: int, seed: int, factors: Sequence[tuple[int, int]], *, restart: int = 0, **options: Any
) -> bytes:
    """Return a JPEG with a component per (across, down) sampling factor. Chroma may be finer than luma."""
    widest, highest = max(across for across, _ in factors), max(down for _, down in factors)
    # A scan of one component is not interleaved: its factors have no effect.
    alone = len(factors) == 1
    blocks = 1 if alone else sum(across * down for across, down in factors)
    mcus = -(-width // (8 if alone else 8 * widest)) * -(-height // (8 if alone else 8 * highest))
    # As wide as a JPEG may be, with a number of blocks that fits exactly.
    wide = next(number for number in range(4096, 0, -1) if mcus * blocks % number == 0)
    grey = drawn(8 * wide, 8 * (mcus * blocks // wide), seed, "L")
    data = jpeg(grey, restart_marker_blocks=restart * blocks, **options)
    return _relabelled(data, width, height, factors, restart)


def _relabelled(data: bytes, width: int, height: int, factors: Sequence[tuple[int, int]], restart: int) -> bytes:
    count = len(factors)
    parts = b"".join(bytes([number, across << 4 | down, 0]) for number, (across, down) in enumerate(factors, start=1))
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    frame = b"\xff\xc0" + (8 + 3 * count).to_bytes(2, "big") + b"\x08" + size + bytes([count]) + parts
    tables = b"".join(bytes([number, 0]) for number in range(1, count + 1))
    scan = b"\xff\xda" + (6 + 2 * count).to_bytes(2, "big") + bytes([count]) + tables + b"\x00\x3f\x00"
    interval = b"\xff\xdd\x00\x04" + restart.to_bytes(2, "big")
    out, at = data[:2], 2
    while True:
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            return out + scan + data[end:]
        out += {0xC0: frame, 0xDD: interval}.get(marker, data[at:end])
        at = end


def adobe(data: bytes, transform: int) -> bytes:
    """Replace JFIF's marker by Adobe's: transform 0 says that three components are RGB, 1 that they are YCbCr."""
    after = 4 + int.from_bytes(data[4:6], "big") if data[3] == 0xE0 else 2
    return data[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform]) + data[after:]


# Lossless JPEG (SOF3), 8 x 8 px of grey, as libjpeg-turbo 3.2 writes it. Pillow reads it, but at no reduced scale.
LOSSLESS = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffc3000b080008000801011100ffc400160001010100000000000000000000000000060800"
    "ffda00080101000100009fd42850a142889f2850a14285113e50a142850a227ca142850a1444f942850a142889f2850a14285113e50a142850"
    "a227ca142850a1444fffd9"
)


def entropy(data: bytes) -> int:
    """Return the start of the entropy-coded bytes of a one-scan JPEG."""
    at = 2
    while data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def whole(data: bytes, scale: int = 1) -> Image.Image:
    """Return Pillow's decode of the whole JPEG at 1/scale. Raise what Pillow raises."""
    image: Any = Image.open(io.BytesIO(data), formats=["JPEG"])
    if scale > 1:
        # What draft() sets, without its choice of the scale.
        image._size = -(-image.width // scale), -(-image.height // scale)
        image.decoderconfig = (scale, 0)
        image.tile = [image.tile[0]._replace(extents=(0, 0, *image._size))]
    image.load()
    return image  # type: ignore[no-any-return]

"""Pictures that no camera makes, built byte by byte, and how each must end.

Belongs here: the bytes and the reasons. The suites over the engine's parts and over its processes share the table.
"""

import io
import struct
import zlib
from dataclasses import dataclass

from PIL import Image

from tests.photos import drawn, encoded, with_orientation

PHOTO = drawn(320, 240, seed=3)
JPEG = encoded(PHOTO, quality=90)
PNG = encoded(PHOTO, "PNG")
WEBP = encoded(PHOTO, "WEBP")
GIF = encoded(PHOTO, "GIF")
BMP = encoded(PHOTO, "BMP")
TIFF = encoded(PHOTO, "TIFF", compression="tiff_lzw")
AVIF = encoded(PHOTO, "AVIF")
ALL_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def zeros(count: int) -> bytes:
    """So many zero bytes, compressed without ever holding them."""
    packer = zlib.compressobj(9)
    whole, rest = divmod(count, 1_000_000)
    return (
        b"".join([packer.compress(bytes(1_000_000)) for _ in range(whole)])
        + packer.compress(bytes(rest))
        + packer.flush()
    )


def png(width: int, height: int, *chunks: bytes, rows: int = 0) -> bytes:
    """An 8-bit grey PNG that declares this size and holds ``rows`` bytes of black pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zeros(rows)) + chunk(b"IEND", b"")


def jpeg_declaring(width: int, height: int) -> bytes:
    """A real JPEG whose frame header was changed to another size."""
    at = JPEG.index(b"\xff\xc0")
    return JPEG[: at + 5] + struct.pack(">HH", height, width) + JPEG[at + 9 :]


def progressive_bomb(scans: int, picture: Image.Image | None = None) -> bytes:
    """A progressive JPEG whose last scan is there again and again: each costs a pass over the whole picture."""
    data = encoded(picture or drawn(256, 256), quality=50, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def flat_bomb(scans: int) -> bytes:
    """The same over 15 megapixels of grey: a scan is a few bytes and milliseconds."""
    return progressive_bomb(scans, Image.new("L", (3900, 3900), 128))


def webp_declaring(width: int, height: int) -> bytes:
    body = (
        b"VP8X"
        + struct.pack("<I", 10)
        + b"\x02\0\0\0"
        + struct.pack("<I", width - 1)[:3]
        + struct.pack("<I", height - 1)[:3]
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def gif_declaring(width: int, height: int) -> bytes:
    return GIF[:6] + struct.pack("<HH", width, height) + GIF[10:]


def endless_gif(frames: int) -> bytes:
    """An animation of many tiny frames."""
    frame = (
        b"\x21\xf9\x04\x08\x00\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    )
    head = b"GIF89a" + struct.pack("<HHBBB", 320, 240, 0xF0, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + frame * frames + b";"


def tiff_declaring(width: int, height: int) -> bytes:
    """A real little-endian TIFF whose ImageWidth and ImageLength were changed."""
    data = bytearray(TIFF)
    (at,) = struct.unpack_from("<I", data, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", data, at)[0], 12):
        tag = struct.unpack_from("<H", data, entry)[0]
        if tag in (256, 257):
            struct.pack_into("<HII", data, entry + 2, 4, 1, width if tag == 256 else height)
    return bytes(data)


def animated(kind: str) -> bytes:
    frames = [drawn(320, 240, seed=seed) for seed in (1, 2, 3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)


def with_exif(exif: bytes) -> bytes:
    out = io.BytesIO()
    PHOTO.save(out, "JPEG", quality=90, exif=b"Exif\0\0" + exif)
    return out.getvalue()


def multi_picture() -> bytes:
    out = io.BytesIO()
    PHOTO.save(out, "MPO", save_all=True, append_images=[drawn(320, 240, seed=9)])
    return out.getvalue()


@dataclass(frozen=True)
class Hostile:
    name: str
    data: bytes
    reason: str | None  # None: it is cut
    flags: str | None = None
    formats: tuple[str, ...] = ALL_FORMATS


BOMB_TEXT = zeros(200_000_000)

HOSTILE = [
    Hostile("nothing", b"", "not_a_picture"),
    Hostile("one byte", b"\xff", "not_a_picture"),
    Hostile("an HTML page", b"<!DOCTYPE html><html><body>Sign in</body></html>", "not_a_picture"),
    Hostile("JSON", b'{"error": "expired"}', "not_a_picture"),
    Hostile("an SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not_a_picture"),
    Hostile("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "not_a_picture"),
    Hostile("a PDF", b"%PDF-1.7\n", "not_a_picture"),
    Hostile("zeros", bytes(10_000), "not_a_picture"),
    Hostile("a zip with a JPEG in it", b"PK\x03\x04" + JPEG, "not_a_picture"),
    Hostile("a video", b"\0\0\0\x20ftypisom" + bytes(100), "not_a_picture"),
    Hostile("a JPEG's magic alone", b"\xff\xd8\xff", "corrupt_picture"),
    Hostile("a JPEG cut in half", JPEG[: len(JPEG) // 2], "corrupt_picture"),
    Hostile("a JPEG cut in its header", JPEG[:100], "corrupt_picture"),
    Hostile("a JPEG with its header destroyed", JPEG[:2] + bytes(600) + JPEG[602:], "not_a_picture"),
    Hostile("a JPEG without its tables", JPEG[:20] + b"\0" * 150 + JPEG[170:], "corrupt_picture"),
    Hostile("a JPEG of 0 x 0", jpeg_declaring(0, 0), "corrupt_picture"),
    Hostile("a JPEG that declares 65500 x 65500", jpeg_declaring(65500, 65500), "picture_too_large"),
    Hostile("a JPEG that declares 7200 x 7000", jpeg_declaring(7200, 7000), "picture_too_large"),
    Hostile("a JPEG one pixel too wide", jpeg_declaring(20_001, 10), "picture_too_large"),
    Hostile("a progressive JPEG of 300 scans", progressive_bomb(300), "too_many_scans"),
    Hostile("a progressive JPEG of 200 scans", progressive_bomb(190), None),
    Hostile("a JPEG with a thousand scans behind its end", JPEG + b"\xff\xda\0\x08" * 1000, None),
    Hostile("a JPEG with a zip behind it", JPEG + b"PK\x03\x04" + bytes(1000), None),
    Hostile("a JPEG with a script behind it", JPEG + b"<?php system($_GET[0]); ?>", None),
    Hostile("a PNG cut in half", PNG[: len(PNG) // 2], "corrupt_picture"),
    Hostile("a PNG cut in its header", PNG[:20], "corrupt_picture"),
    Hostile("a PNG with a wrong checksum", PNG[:40] + b"\0\0\0\0" + PNG[44:], "corrupt_picture"),
    Hostile("a PNG of 80,000,000 x 1", png(80_000_000, 1, rows=80_000_001), "picture_too_large"),
    Hostile("a PNG of 2,000,000,000 x 2,000,000,000", png(2_000_000_000, 2_000_000_000), "picture_too_large"),
    Hostile("a PNG of 0 x 0", png(0, 0), "corrupt_picture"),
    # Every checksum is right: what is missing is black, for Pillow as for browsers.
    Hostile("a PNG with fewer rows than it says", png(300, 300, rows=301 * 10), None),
    Hostile(
        "a PNG with a text bomb",
        png(300, 300, chunk(b"zTXt", b"a\0\0" + BOMB_TEXT), rows=301 * 300),
        "corrupt_picture",
    ),
    Hostile(
        "a PNG with a profile bomb",
        png(300, 300, chunk(b"iCCP", b"a\0\0" + BOMB_TEXT), rows=301 * 300),
        "corrupt_picture",
    ),
    Hostile("a WebP cut in half", WEBP[: len(WEBP) // 2], "corrupt_picture"),
    Hostile("a WebP that declares 16384 x 16384", webp_declaring(16384, 16384), "picture_too_large"),
    Hostile("a WebP without pictures", webp_declaring(300, 300), "corrupt_picture"),
    Hostile("an animated WebP", animated("WEBP"), None, "first_frame"),
    Hostile("an animated PNG", animated("PNG"), None, "first_frame"),
    Hostile("an animated GIF", animated("GIF"), None, "first_frame"),
    Hostile("an animated AVIF", animated("AVIF"), None, "first_frame"),
    Hostile("a GIF of 100,000 frames", endless_gif(100_000), None, "first_frame"),
    Hostile("a GIF that declares 65535 x 65535", gif_declaring(65535, 65535), "picture_too_large"),
    Hostile("a GIF cut in its header", GIF[:8], "corrupt_picture"),
    Hostile("two pictures in one JPEG", multi_picture(), None, "first_frame"),
    Hostile("EXIF garbage", with_exif(b"II*\0" + b"\xff" * 200), None),
    Hostile("EXIF that points outside", with_exif(b"II*\0\xff\xff\xff\x7f"), None),
    Hostile("EXIF that is no TIFF", with_exif(b"garbage garbage garbage"), None),
    Hostile(
        "a PNG with EXIF that is no TIFF",
        png(300, 300, chunk(b"eXIf", b"garbage garbage"), rows=301 * 300),
        None,
        "exif_ignored",
    ),
    Hostile("EXIF orientation 9", encoded(PHOTO, exif=with_orientation(9)), None),
    Hostile("a TIFF cut in half", TIFF[: len(TIFF) // 2], "corrupt_picture"),
    Hostile("a TIFF that declares 60000 x 60000", tiff_declaring(60_000, 60_000), "picture_too_large"),
    Hostile("a floating-point TIFF", encoded(Image.new("F", (300, 300), 0.5), "TIFF"), "mode_unsupported"),
    Hostile("a BMP cut in half", BMP[: len(BMP) // 2], "corrupt_picture"),
    Hostile(
        "a BMP that declares 100000 x 100000",
        BMP[:18] + struct.pack("<ii", 100_000, -100_000) + BMP[26:],
        "picture_too_large",
    ),
    Hostile("an AVIF cut in half", AVIF[: len(AVIF) // 2], "corrupt_picture"),
    Hostile("a TIFF where it is not allowed", TIFF, "format_refused", formats=("JPEG", "PNG", "WEBP")),
    Hostile("a GIF where it is not allowed", GIF, "format_refused", formats=("JPEG", "PNG", "WEBP")),
    Hostile("a BMP where it is not allowed", BMP, "format_refused", formats=("JPEG", "PNG", "WEBP")),
    Hostile("an AVIF where it is not allowed", AVIF, "format_refused", formats=("JPEG", "PNG", "WEBP")),
    Hostile("a PNG where only JPEGs are allowed", PNG, "format_refused", formats=("JPEG",)),
]

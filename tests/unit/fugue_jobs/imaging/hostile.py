"""Pictures that no camera makes, and the expected outcome of each, for the suites of the imaging code and the pool."""

import struct
import zlib
from dataclasses import dataclass

from PIL import Image

from tests.photos import encoded, with_orientation
from tests.unit.fugue_jobs.imaging.forged import (
    AVIF,
    BMP,
    GIF,
    JPEG,
    PHOTO,
    PNG,
    TIFF,
    WEBP,
    animated,
    behind_component_ids,
    behind_reserved_markers,
    chunk,
    endless_gif,
    gif_declaring,
    gif_frame_declaring,
    jpeg_declaring,
    multi_picture,
    overlapping_tags,
    png,
    progressive_bomb,
    segment,
    tiff_declaring,
    tiff_tile_declaring,
    webp_declaring,
    with_exif,
    with_profile,
    with_segments,
    zeros,
)

ALL_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")


@dataclass(frozen=True)
class Hostile:
    name: str
    data: bytes
    reason: str | None  # None: it is cut
    flags: str | None = None
    formats: tuple[str, ...] = ALL_FORMATS


BOMB_TEXT = zeros(200_000_000)
# EXIF as some programs store it in PNGs: in hex, after a name and a length.
HEX_EXIF = zlib.compress(b"\nexif\n0\n" + overlapping_tags(3000, 300_000).hex().encode())

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
    Hostile("a JPEG cut in half", JPEG[: len(JPEG) // 2], "damaged_pixels"),
    Hostile("a JPEG cut in its header", JPEG[:100], "corrupt_picture"),
    Hostile("a JPEG with its header destroyed", JPEG[:2] + bytes(600) + JPEG[602:], "not_a_picture"),
    Hostile("a JPEG without its tables", JPEG[:20] + b"\0" * 150 + JPEG[170:], "corrupt_picture"),
    Hostile("a JPEG of 0 x 0", jpeg_declaring(0, 0), "corrupt_picture"),
    Hostile("a JPEG that declares 65500 x 65500", jpeg_declaring(65500, 65500), "picture_too_large"),
    Hostile("a JPEG that declares 7200 x 7000", jpeg_declaring(7200, 7000), "picture_too_large"),
    Hostile("a JPEG one pixel too wide", jpeg_declaring(20_001, 10), "picture_too_large"),
    Hostile("a progressive JPEG of 300 scans", progressive_bomb(300), "too_many_scans"),
    # Few enough scans to decode, but a repeated refinement changes the coefficients once more: the pixels are wrong.
    Hostile("a progressive JPEG of 200 scans", progressive_bomb(190), "damaged_pixels"),
    Hostile("a JPEG with a thousand scans behind its end", JPEG + b"\xff\xda\0\x08" * 1000, None),
    Hostile("a JPEG with a zip behind it", JPEG + b"PK\x03\x04" + bytes(1000), None),
    Hostile("a JPEG with a script behind it", JPEG + b"<?php system($_GET[0]); ?>", None),
    Hostile("a JPEG with scans behind the names of components", behind_component_ids(300), "too_many_scans"),
    Hostile("a JPEG with scans behind reserved markers", behind_reserved_markers(300), "too_many_scans"),
    Hostile("a JPEG bomb of empty segments", with_segments(segment(0xE5) * 1_000_000), "corrupt_picture"),
    Hostile(
        "a JPEG bomb of tables", with_segments(segment(0xC4, bytes([0, 1, *bytes(15), 0])) * 3000), "corrupt_picture"
    ),
    Hostile(
        "a JPEG bomb of EXIF in pieces",
        with_segments(segment(0xE1, b"Exif\0\0" + bytes(500)) * 3000),
        "corrupt_picture",
    ),
    Hostile("a JPEG bomb of fill bytes", with_segments(b"\xff" * 1_000_000), "corrupt_picture"),
    Hostile("a JPEG with a thousand segments", with_segments(segment(0xE5, b"note") * 1000), None),
    Hostile("a JPEG with a profile bomb", with_profile(5_000_000), None, "icc_ignored"),
    Hostile("a JPEG with a profile of 3 MB", with_profile(3_000_000), None),
    Hostile("a JPEG whose EXIF is a bomb of overlapping tags", with_exif(overlapping_tags(2500, 30_000)), None),
    Hostile("a PNG cut in half", PNG[: len(PNG) // 2], "damaged_pixels"),
    Hostile("a PNG cut in its header", PNG[:20], "corrupt_picture"),
    Hostile("a PNG with a chunk of no kind", PNG[:40] + b"\0\0\0\0" + PNG[44:], "corrupt_picture"),
    Hostile("a PNG of 80,000,000 x 1", png(80_000_000, 1, rows=80_000_001), "picture_too_large"),
    Hostile("a PNG of 2,000,000,000 x 2,000,000,000", png(2_000_000_000, 2_000_000_000), "picture_too_large"),
    Hostile("a PNG of 0 x 0", png(0, 0), "corrupt_picture"),
    # All checksums are right. The missing rows are black, for Pillow as for browsers.
    Hostile("a PNG with fewer rows than it says", png(300, 300, rows=301 * 10), "damaged_pixels"),
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
    Hostile(
        "a PNG whose EXIF is a bomb of overlapping tags",
        png(300, 300, chunk(b"eXIf", overlapping_tags(3000, 300_000)), rows=301 * 300),
        None,
    ),
    Hostile(
        "a PNG whose EXIF is a bomb in hex",
        png(300, 300, chunk(b"zTXt", b"Raw profile type exif\0\0" + HEX_EXIF), rows=301 * 300),
        None,
    ),
    Hostile(
        "a PNG that declares 2,147,483,647 frames",
        png(300, 300, chunk(b"acTL", b"\x7f\xff\xff\xff" + bytes(4)), rows=301 * 300),
        None,
        "first_frame",
    ),
    Hostile(
        "a PNG with a second, larger header",
        png(300, 300, chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))),
        "picture_too_large",
    ),
    Hostile("a WebP cut in half", WEBP[: len(WEBP) // 2], "damaged_pixels"),
    Hostile("a WebP that declares 16384 x 16384", webp_declaring(16384, 16384), "picture_too_large"),
    Hostile(
        "a WebP that begins with a chunk of no kind",
        b"RIFF" + struct.pack("<I", len(WEBP) + 4) + b"WEBPABCD\x04\0\0\0abcd" + WEBP[12:],
        "corrupt_picture",
    ),
    Hostile("an animated WebP cut in half", animated("WEBP")[: len(animated("WEBP")) // 2], "damaged_pixels"),
    Hostile("a WebP without pictures", webp_declaring(300, 300), "corrupt_picture"),
    Hostile("an animated WebP", animated("WEBP"), None, "first_frame"),
    Hostile("an animated PNG", animated("PNG"), None, "first_frame"),
    Hostile("an animated GIF", animated("GIF"), None, "first_frame"),
    Hostile("an animated AVIF", animated("AVIF"), None, "first_frame"),
    Hostile("a GIF of 100,000 frames", endless_gif(100_000), None, "first_frame"),
    Hostile("a GIF that declares 65535 x 65535", gif_declaring(65535, 65535), "picture_too_large"),
    Hostile("a GIF whose first frame declares 13000 x 13000", gif_frame_declaring(13_000, 13_000), "picture_too_large"),
    Hostile("a GIF cut in its header", GIF[:8], "corrupt_picture"),
    Hostile("two pictures in one JPEG", multi_picture(), None, "first_frame"),
    Hostile("EXIF garbage", with_exif(b"II*\0" + b"\xff" * 200), None),
    Hostile("EXIF that points outside", with_exif(b"II*\0\xff\xff\xff\x7f"), None),
    Hostile("EXIF that is no TIFF", with_exif(b"garbage garbage garbage"), None, "exif_ignored"),
    Hostile(
        "a PNG with EXIF that is no TIFF",
        png(300, 300, chunk(b"eXIf", b"garbage garbage"), rows=301 * 300),
        None,
        "exif_ignored",
    ),
    Hostile("EXIF orientation 9", encoded(PHOTO, exif=with_orientation(9)), None),
    Hostile("a TIFF cut in half", TIFF[: len(TIFF) // 2], "corrupt_picture"),
    Hostile("a TIFF that declares 60000 x 60000", tiff_declaring(60_000, 60_000), "picture_too_large"),
    Hostile(
        "a TIFF whose tile declares 30000 x 30000",
        tiff_tile_declaring(30_000, 30_000, rows=100_000_000),
        "picture_too_large",
    ),
    Hostile("a TIFF in a tile that is larger than it", tiff_tile_declaring(256, 256, rows=65_536), None),
    Hostile(
        "a TIFF whose width is text",
        TIFF.replace(b"\0\x01\x03\0\x01\0\0\0", b"\0\x01\x02\0\x01\0\0\0", 1),
        "corrupt_picture",
    ),
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

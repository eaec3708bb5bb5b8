"""Reads a photo's format and declared size from its bytes, and checks them before anything is decoded.

Nothing here allocates by a header's values. The file's name and the server's content type are ignored.
"""

import re
import struct
from collections.abc import Iterator
from typing import Protocol

from cropline.core.failures import PhotoFailure

_SCAN, _END = 0xDA, 0xD9
_SEQUENTIAL = frozenset([0xC0, 0xC1, 0xC9])
_PROGRESSIVE = frozenset([0xC2, 0xC6, 0xCA, 0xCE])
_LOSSLESS = frozenset([0xC3, 0xC7, 0xCB, 0xCF])
# SOF0-15, without DHT, JPG and DAC, whose codes are among them.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: reserved ones, TEM, RST0-7, SOI. A decoder stops there or steps over two
# bytes, so what follows matters.
_BARE = frozenset([*range(0xC0), *range(0xD0, 0xD9)])
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
# Cameras and editors write some dozens of segments; large profiles and notes some hundreds. Pillow takes
# 5 us for each, and copies all of EXIF again for each further piece of it.
_MOST_SEGMENTS = 2_000
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    b"jxl ": "JXL",
    **dict.fromkeys((b"jp2 ", b"jpx ", b"jpm ", b"jph "), "JP2"),
}
_MOST_BRANDS = 512
_MAGIC = {
    b"\0\0\0\x0cJXL \r\n\x87\n": "JXL",
    b"\xff\x0a": "JXL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JP2",
    b"\xff\x4f\xff\x51": "JP2",
}
_NAMES = {"JXL": "JPEG XL", "JP2": "JPEG 2000"}
_UNDECODED = {
    "HEIC": "(an iPhone's format) is not among the allowed formats: ask for JPEGs, or install cropline[heic] where photos are "
    "decoded and add HEIC to CROPLINE_PICTURES__FORMATS",
    **dict.fromkeys(("JXL", "JP2"), "cannot be decoded by cropline: ask for JPEGs"),
}


class Limits(Protocol):
    """The fields of settings.PictureLimits that this module needs; declared here so that it imports no settings."""

    @property
    def formats(self) -> tuple[str, ...]: ...
    @property
    def max_pixels(self) -> int: ...
    @property
    def max_side(self) -> int: ...
    @property
    def max_scans(self) -> int: ...


def check_header(data: bytes, limits: Limits) -> str:
    """Return the format (JPEG, PNG, WEBP, TIFF, BMP, GIF, AVIF, HEIC) if it and its declared size are allowed.

    Raise PhotoFailure: not_a_picture, format_refused, picture_too_large, too_many_scans.
    """
    kind = sniff(data)
    if kind is None:
        raise PhotoFailure("not_a_picture", f"{len(data)} bytes of {_looks_like(data)}")
    if kind not in limits.formats:
        raise PhotoFailure(
            "format_refused", f"{_NAMES.get(kind, kind)} {_UNDECODED.get(kind, 'is not among the allowed formats')}"
        )
    size = declared_size(kind, data)
    if size is not None:
        check_size(*size, limits)
    if kind == "JPEG" and count_scans(data, limits.max_scans + 1) > limits.max_scans:
        raise PhotoFailure("too_many_scans", f"more than {limits.max_scans} scans")
    return kind


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise PhotoFailure picture_too_large when a picture of this size must not be decoded."""
    if width > limits.max_side or height > limits.max_side or width * height > limits.max_pixels:
        raise PhotoFailure("picture_too_large", f"{width} x {height} px")


def sniff(data: bytes) -> str | None:
    """Return the format by its magic bytes; None for an unknown one."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "TIFF"
    if data[4:8] == b"ftyp":
        return _of_brands(data)
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return kind
    return "BMP" if data.startswith(b"BM") and len(data) > 26 else None


def _of_brands(data: bytes) -> str | None:
    """Return the format by the brands of an ISO media file: the major one decides, then the compatible ones."""
    end = min(int.from_bytes(data[:4], "big"), len(data), _MOST_BRANDS)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)


def _looks_like(data: bytes) -> str:
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not data:
        return "nothing"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "HTML"
    if head.startswith((b"{", b"[")):
        return "JSON"
    if head.startswith(b"<"):
        return "XML"
    return "something else"


def declared_size(kind: str, data: bytes) -> tuple[int, int] | None:
    """Return (width, height) px of the header, for formats whose Pillow plugins allocate by it when they open.

    None otherwise: JPEG, TIFF and AVIF open without such an allocation, so their size is read then.
    """
    try:
        if kind == "PNG":
            return struct.unpack(">II", data[16:24])
        if kind == "GIF":
            return struct.unpack("<HH", data[6:10])
        if kind == "BMP":
            return _bmp_size(data)
        if kind == "WEBP":
            return _webp_size(data)
    except struct.error:
        raise PhotoFailure("corrupt_picture", f"the {kind} header ends early") from None
    return None


def _bmp_size(data: bytes) -> tuple[int, int]:
    if struct.unpack("<I", data[14:18])[0] == 12:
        return struct.unpack("<HH", data[18:22])
    width, height = struct.unpack("<ii", data[18:26])
    return abs(width), abs(height)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = struct.unpack("<I", data[24:27] + b"\0")[0], struct.unpack("<I", data[27:30] + b"\0")[0]
        return width + 1, height + 1
    if chunk == b"VP8L":
        bits: int = struct.unpack("<I", data[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def count_scans(data: bytes, enough: int) -> int:
    """Count the scans of the JPEG at the start of data, along its segments to its end; stop at ``enough``.

    A sequential picture whose first scan holds all of its components is decoded from that scan alone: it
    counts as 1. Entropy-coded bytes hold no markers except stuffed zeros and restarts, so further scans
    are found without decoding. Raise PhotoFailure corrupt_picture, as _segments does.
    """
    scans, components = 0, 0
    for marker, at in segments(data):
        if marker in _SEQUENTIAL:
            components = data[at + 9] if at + 9 < len(data) else 0
        elif marker == _SCAN:
            scans += 1
            if scans >= enough or (scans == 1 and components and data[at + 4] == components):
                break
    return scans


def first_scan(data: bytes) -> int:
    """Return the offset of the first scan of the JPEG at the start of data; the length of data without one."""
    return next((at for marker, at in segments(data) if marker == _SCAN), len(data))


def scans_are_complete(data: bytes) -> bool:
    """Return whether a JPEG's scans have every component, and in a progressive one every bit of every coefficient."""
    left: dict[int, list[int]] = {}
    progressive = False
    for marker, at in segments(data):
        body = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        if marker in _FRAMES and len(body) > 5:
            progressive = marker in _PROGRESSIVE
            left = {number: [1] * 64 for number in body[6::3]}
        elif marker == _SCAN and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[-3:]
            for number in body[1 : 1 + 2 * body[0] : 2]:
                spectrum = left.get(number, [])
                spectrum[first : last + 1] = [bits & 15 if progressive else 0] * len(spectrum[first : last + 1])
    return not any(any(spectrum) for spectrum in left.values())


def is_lossless(data: bytes) -> bool:
    """Return whether the JPEG at the start of data is lossless: then it cannot be decoded at a reduced scale."""
    return next((marker for marker, _ in segments(data) if marker in _FRAMES), 0) in _LOSSLESS


def segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, offset) of each segment with a length, up to the end marker. At least five bytes follow an offset.

    Raise PhotoFailure corrupt_picture for a file with so many segments that reading them would take too long.
    """
    at, steps = 2, 0
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 5 > len(data):
            return
        marker = data[at + 1]
        if marker == _END:
            return
        if marker == _SCAN:
            yield marker, at
            at = _after_scan(data, at)
            continue
        steps += 1
        if steps > _MOST_SEGMENTS:
            raise PhotoFailure("corrupt_picture", f"more than {_MOST_SEGMENTS} segments")
        if marker == 0xFF:
            at += 1
        elif marker in _BARE:
            at += 2
        else:
            yield marker, at
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _after_scan(data: bytes, at: int) -> int:
    """Return the offset of the next relevant marker. A search for these is faster than steps over stuffed zeros."""
    # Start after the scan's own header, whose bytes may look like a marker.
    found = _MARKER.search(data, at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"))
    return found.start() if found else len(data)

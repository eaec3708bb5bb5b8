"""Checks that a WebP is complete, as a whole: its decoder fails or succeeds as a whole and fills nothing in."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from cropline.core.failures import PhotoFailure

_ZEROS = bytes(64)  # coded pixels have no such run
_PIXELS = (b"VP8 ", b"VP8L")
_FRAME_HEADER = 16


def check_webp(data: bytes) -> None:
    """Raise PhotoFailure damaged_pixels when bytes are missing, or zeros replace them."""
    if len(data) < 12:
        return
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise PhotoFailure("damaged_pixels", f"the photo ends after {len(data)} of {end} bytes")
    view = memoryview(data)
    if any(bytes(body).find(_ZEROS) >= 0 for body in _pixels(view[12:end])):
        raise PhotoFailure("damaged_pixels", "the photo is damaged: zeros replace pixels")


def _pixels(view: memoryview) -> Iterator[memoryview]:
    at = 0
    while at + 8 <= len(view):
        kind, length = struct.unpack_from("<4sI", view, at)
        body = view[at + 8 : at + 8 + length]
        if kind in _PIXELS:
            yield body
        elif kind == b"ANMF":
            yield from _pixels(body[_FRAME_HEADER:])
        at += 8 + length + length % 2

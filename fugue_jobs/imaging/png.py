"""Reads a PNG's chunks besides Pillow: the meaning of its samples, and its damaged rows.

Pillow ignores cICP, supports transparent colours at some depths only, and does not check the pixels' checksums.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from fugue_jobs.imaging.damage import ZEROS, Damage, all_damaged

_BEFORE_CHUNKS = 8
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_FILTERS = 5
_PIECE = 1 << 10
_MOST_OUT = 1 << 18
_MEANING = frozenset([b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP"])
_SOMEWHERE = "the photo is damaged at an unknown place"


class Chunk(NamedTuple):
    """One chunk. wrong: its checksum does not match; cut: the file ends within it."""

    kind: bytes
    body: memoryview
    state: Literal["whole", "wrong", "cut"]


class Header(NamedTuple):
    """The fields of IHDR."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    def row_bytes(self, width: int) -> int:
        """Return the uncompressed bytes of a row of this many pixels, with its filter byte."""
        return 1 + -(-width * self.depth * _CHANNELS[self.colour] // 8)


class Png(NamedTuple):
    """What a PNG declares about its samples. The first whole chunk of each kind counts."""

    header: Header
    meaning: dict[bytes, bytes]


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield each chunk up to the end."""
    # A file that was cut off in preallocated space ends in zeros.
    size = len(data.rstrip(b"\0")) if data.endswith(bytes(ZEROS)) else len(data)
    view, at = memoryview(data)[:size], _BEFORE_CHUNKS
    while at + 8 <= size:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > size:
            yield Chunk(kind, view[at + 8 : end], "cut")
            return
        right = zlib.crc32(view[at + 4 : end]) == int.from_bytes(view[end : end + 4], "big")
        yield Chunk(kind, view[at + 8 : end], "whole" if right else "wrong")
        if kind == b"IEND":
            return
        at = end + 4


def read_png(data: bytes) -> Png | None:
    """Return the PNG's declarations; None without a valid header."""
    header: Header | None = None
    meaning: dict[bytes, bytes] = {}
    for kind, body, state in chunks(data):
        if kind == b"IHDR" and header is None and len(body) >= 13:
            width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", body)
            if colour not in _CHANNELS or not width or not height:
                return None
            header = Header(width, height, depth, colour, bool(interlaced))
        elif kind in _MEANING and state == "whole":
            meaning.setdefault(kind, bytes(body))
        elif kind == b"IDAT":
            break
    return None if header is None else Png(header, meaning)


def judge_png(data: bytes, header: Header, *, pixels_too: bool) -> Damage | None:
    """Return the damage of a PNG; None when there is none.

    Checksums reveal damaged chunks. ``pixels_too``: decompress the pixels as well, which also happens when a
    chunk is damaged; otherwise missing rows are not noticed.
    """
    pixels: list[memoryview] = []
    ended = wrong = False
    for kind, body, state in chunks(data):
        ended = ended or kind == b"IEND"
        if kind == b"IDAT" and state != "wrong":
            pixels.append(body)
        if kind == b"IDAT" and state != "whole":
            # Bytes of a chunk that is cut off are used; those of a chunk with a wrong checksum are not.
            wrong = True
            break
    if ended and not wrong and not pixels_too:
        return None
    rows = _whole_rows(pixels, header)
    if rows is None or (header.interlaced and rows < header.height):
        # Each of an interlaced picture's seven passes covers all of it.
        return all_damaged(header.height, data, _SOMEWHERE)
    if rows < header.height:
        return Damage(((rows, header.height),), data, f"the photo is damaged from row {rows} on")
    return None if ended and not wrong else Damage((), data, "")


def _whole_rows(pixels: Sequence[memoryview], header: Header) -> int | None:
    """Return how many rows from the top these compressed bytes hold. None: their own checksum is wrong."""
    starts = _row_starts(header)
    unpacked, done, out = zlib.decompressobj(), 0, 0
    start = next(starts, None)
    for piece in (body[at : at + _PIECE] for body in pixels for at in range(0, len(body), _PIECE)):
        waiting: bytes | memoryview = piece
        while len(waiting) and not unpacked.eof:
            try:
                rows = unpacked.decompress(waiting, _MOST_OUT)
            except zlib.error as error:
                # At the end the checksum over everything does not match.
                return None if start is None or "check" in str(error) else _a_row_less(header, done)
            while start is not None and start < out + len(rows):
                if rows[start - out] >= _FILTERS:
                    return _a_row_less(header, done)
                done, start = done + 1, next(starts, None)
            out += len(rows)
            waiting = unpacked.unconsumed_tail
            if start is None and not rows and not waiting:
                break
    # A row is whole when the next one has begun, or when everything is there.
    if start is None and out >= _all_bytes(header):
        return header.height
    if header.interlaced:
        return 0
    return max(0, done - 1) if start is None or out < start else done


def _a_row_less(header: Header, begun: int) -> int:
    """Return the whole rows, less one: damage shows a little late. The last row that has begun is incomplete anyway."""
    return 0 if header.interlaced else max(0, begun - 2)


def _passes(header: Header) -> list[tuple[int, int]]:
    """Return (columns, rows) of each pass."""
    if not header.interlaced:
        return [(header.width, header.height)]
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    sizes = [(-(-(header.width - x) // dx), -(-(header.height - y) // dy)) for x, y, dx, dy in adam7]
    return [(columns, rows) for columns, rows in sizes if columns > 0 and rows > 0]


def _row_starts(header: Header) -> Iterator[int]:
    at = 0
    for columns, rows in _passes(header):
        step = header.row_bytes(columns)
        yield from range(at, at + rows * step, step)
        at += rows * step


def _all_bytes(header: Header) -> int:
    return sum(rows * header.row_bytes(columns) for columns, rows in _passes(header))

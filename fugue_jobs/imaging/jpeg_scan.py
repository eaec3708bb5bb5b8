"""Walks the one scan of a sequential JPEG code by code, without decoding: how many MCUs it has, and how they end.

The walk exists twice: here and in native/src/_cut.c, which is used where it is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

from fugue_jobs.imaging.headers import segments

Ended = Literal["whole", "short", "bad"]
Table = tuple[bytes, bytes]
"""A Huffman table as in a DHT segment: the number of codes of each of 16 lengths, and their values in order."""

_WINDOW = 12
_BLOCK = 64
_ENDS = 2 * _BLOCK
_SIZES = 12  # a DC difference of 8-bit samples has 0 to 11 bits
# Python takes about a second per megabyte: beyond this a photo would count as one that hangs.
_MOST_IN_PYTHON = 8_000_000
_MARKER = re.compile(rb"\xff[\x01-\xff]")
_FILL = re.compile(rb"\xff+")

_DC_VALUES = bytes(range(12))
# The tables of the standard's annex K by their number, AC from 0x10 on. Motion JPEG leaves them out.
_STANDARD: dict[int, Table] = {
    0x00: (bytes.fromhex("00010501010101010100000000000000"), _DC_VALUES),
    0x01: (bytes.fromhex("00030101010101010101010000000000"), _DC_VALUES),
    0x10: (
        bytes.fromhex("0002010303020403050504040000017d"),
        bytes.fromhex(
            "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a343536"
            "3738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999a"
            "a2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7"
            "f8f9fa"
        ),
    ),
    0x11: (
        bytes.fromhex("00020102040403040705040400010277"),
        bytes.fromhex(
            "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35"
            "363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798"
            "999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7"
            "f8f9fa"
        ),
    ),
}


class Scan(NamedTuple):
    """The headers' values for the walk. ``columns``, ``rows``: MCUs. ``tables``: DC and AC of each block of an MCU."""

    columns: int
    rows: int
    mcu_height: int
    interval: int
    tables: tuple[tuple[Table, Table], ...]
    begin: int
    shares_chroma: bool  # rows of pixels share chroma rows, interpolated from neighbours


class Walked(NamedTuple):
    """The end of a walk: whole MCUs, the bit after the last of them, and "whole" when all were found."""

    mcus: int
    bit: int
    ended: Ended


class Entropy(NamedTuple):
    """The scan's bytes, split at its restarts; their end, and the marker there (None: the file ends)."""

    pieces: list[bytes]
    in_turn: bool  # as many restarts as the header says, in order
    end: int
    marker: int | None


def read_scan(data: bytes) -> Scan | None:
    """Return a JPEG's scan; None for progressive, arithmetic, lossless or 12-bit ones and for several scans.

    As libjpeg does, it skips bytes that belong to no segment, and takes the standard tables for missing ones.
    """
    tables = dict(_STANDARD)
    frame: bytes | None = None
    interval = 0
    try:
        for marker, at in segments(data):
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            body = data[at + 4 : end]
            if marker == 0xC4:
                _read_tables(body, tables)
            elif marker in (0xC0, 0xC1):
                frame = body
            elif 0xC2 <= marker <= 0xCF:
                return None
            elif marker == 0xDD:
                interval = int.from_bytes(body[:2], "big")
            elif marker == 0xDA:
                return None if frame is None else _scan_of(frame, body, tables, interval, end)
    except (IndexError, KeyError, ValueError):
        return None
    return None


def _read_tables(body: bytes, tables: dict[int, Table]) -> None:
    at = 0
    while at < len(body):
        counts = body[at + 1 : at + 17]
        end = at + 17 + sum(counts)
        if len(counts) < 16 or end > len(body) or sum(counts) > 256 or not _fits(counts):
            raise ValueError("no Huffman table")
        tables[body[at]] = counts, body[at + 17 : end]
        at = end


def _fits(counts: bytes) -> bool:
    """Return whether this many codes of these lengths can exist."""
    return sum(many << (16 - length) for length, many in enumerate(counts, 1)) <= 1 << 16


def _scan_of(frame: bytes, header: bytes, tables: dict[int, Table], interval: int, begin: int) -> Scan | None:
    height, width, count = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"), frame[5]
    if frame[0] != 8 or header[0] != count or not width or not height:
        return None
    factors = {frame[6 + 3 * part]: divmod(frame[7 + 3 * part], 16) for part in range(count)}
    alone = count == 1
    across, down = (1, 1) if alone else (max(each[side] for each in factors.values()) for side in (0, 1))
    found: list[tuple[Table, Table]] = []
    for part in range(count):
        named, numbers = header[1 + 2 * part], header[2 + 2 * part]
        both = tables[numbers >> 4], tables[0x10 | numbers & 15]
        found += [both] * (1 if alone else factors[named][0] * factors[named][1])
    if not 0 < len(found) <= 10:
        return None
    columns, rows = -(-width // (8 * across)), -(-height // (8 * down))
    return Scan(columns, rows, 8 * down, interval, tuple(found), begin, shares_chroma=down > 1)


def entropy(data: bytes, scan: Scan) -> Entropy:
    """Return the scan's bytes without stuffing, in pieces from restart to restart."""
    pieces: list[bytes] = []
    at, looked = scan.begin, scan.begin
    while found := _MARKER.search(data, looked):
        # Fill bytes (0xFF) may precede a marker; they are not data.
        fill = _FILL.match(data, found.start())
        looked = 1 + (found.start() if fill is None else fill.end())
        if looked > len(data):
            break
        marker = data[looked - 1]
        pieces.append(_unstuffed(data[at : found.start()]))
        if not (scan.interval and 0xD0 <= marker <= 0xD7):
            return Entropy(pieces, _complete(scan, pieces), found.start(), marker)
        if marker & 7 != (len(pieces) - 1) & 7:
            return Entropy(pieces, False, found.start(), marker)
        at = looked
    else:
        found = None
    end = len(data) if found is None else found.start()
    end -= data[at:end].endswith(b"\xff")  # the first half of a marker or of a stuffed byte
    pieces.append(_unstuffed(data[at:end]))
    return Entropy(pieces, _complete(scan, pieces), end, None)


def _complete(scan: Scan, pieces: Sequence[bytes]) -> bool:
    return len(pieces) == (-(-scan.columns * scan.rows // scan.interval) if scan.interval else 1)


def _unstuffed(piece: bytes) -> bytes:
    return piece.replace(b"\xff\0", b"\xff")


def walk(piece: bytes, tables: Sequence[tuple[Table, Table]], count: int) -> Walked | None:
    """Walk ``count`` MCUs of these bytes. None: too long for the walk in Python."""
    native = _native("walk")
    if native is not None:
        return Walked(*native(piece, tuple(tables), count))
    if len(piece) > _MOST_IN_PYTHON:
        return None
    return walk_in_python(piece, tables, count)


def scan_damage(data: bytes) -> bool | None:
    """Return whether libjpeg finds damage in the codes of any scan. None: unknown, as without the extension.

    Costs as much as decoding without computing pixels. Check the photo's size first.
    """
    native = _native("scan_damage")
    found = -1 if native is None else native(data)
    return None if found < 0 else found > 0


@cache
def _native(name: str) -> Callable[..., Any] | None:
    try:
        found: Callable[..., Any] = getattr(import_module("cropline_regions"), name)
    except (ImportError, AttributeError):
        return None
    return found


def walk_in_python(piece: bytes, tables: Sequence[tuple[Table, Table]], count: int) -> Walked:
    """Walk in Python, whether the extension is built or not."""
    bits, end = piece + bytes(64), 8 * len(piece)
    read = [(_symbols(dc), _symbols(ac), _steps(ac)) for dc, ac in tables]
    at = 0
    for number in range(count):
        before = at
        for dc, ac, steps in read:
            found = dc[int.from_bytes(bits[at >> 3 : (at >> 3) + 3]) >> (8 - (at & 7)) & 0xFFFF]
            if not found or found >> 5 >= _SIZES:
                return _stopped(number, before, at, end)
            at += (found & 31) + (found >> 5)
            after = _skip_block(bits, at, ac, steps)
            if after < 0:
                return _stopped(number, before, ~after, end)
            at = after
            if at > end:
                return Walked(number, before, "short")
    return Walked(count, at, "whole")


def _stopped(number: int, before: int, at: int, end: int) -> Walked:
    """Return a stopped walk. An invalid code near the end means that the bits ended: codes have up to 16 bits."""
    return Walked(number, before, "short" if at + 16 > end else "bad")


def _skip_block(bits: bytes, at: int, ac: list[int], steps: list[int]) -> int:
    """Return the end, in bits, of the block whose AC codes start at this bit; its complement on an error."""
    k = 1
    while k < _BLOCK:
        window = int.from_bytes(bits[at >> 3 : (at >> 3) + 3]) >> (8 - (at & 7)) & 0xFFFF
        step = steps[window >> 4]
        if step:
            after = k + (step >> 5)
            if after < _BLOCK:
                at += step & 31
                k = after
                continue
            if _ENDS <= after < _ENDS + _BLOCK:
                return at + (step & 31)
        found = ac[window]
        if not found:
            return ~at
        value = found >> 5
        at += (found & 31) + (value & 15)
        if not value & 15 and value != 0xF0:
            return at
        k += (value >> 4) + 1
        if at >> 3 > len(bits) - 8:
            return ~at
    return at if k == _BLOCK else ~at


@lru_cache(maxsize=8)
def _symbols(table: Table) -> list[int]:
    """Return a table by the next 16 bits: length | value << 5 of the code, 0 where there is none."""
    found, code, index = [0] * 65536, 0, 0
    for length, many in enumerate(table[0], 1):
        for _ in range(many):
            if code >> length or index >= len(table[1]):
                return found
            first = code << (16 - length)
            entry = length | table[1][index] << 5
            found[first : first + (1 << (16 - length))] = [entry] * (1 << (16 - length))
            code, index = code + 1, index + 1
        code <<= 1
    return found


@lru_cache(maxsize=8)
def _steps(table: Table) -> list[int]:
    """Return a table by the next 12 bits, for all whole AC symbols in them: bits | coefficients << 5, or _ENDS."""
    symbols = _symbols(table)
    found = []
    for window in range(1 << _WINDOW):
        used = advance = 0
        while used < _WINDOW and advance < _ENDS:
            one = symbols[(window << (used + 4)) & 0xFFFF]
            length, value = one & 31, one >> 5
            ends = not value & 15 and value != 0xF0
            if not one or used + length > _WINDOW or (not ends and advance + (value >> 4) + 1 >= _BLOCK):
                break
            used += length + (value & 15)
            advance += _ENDS if ends else (value >> 4) + 1
        found.append(used | advance << 5)
    return found

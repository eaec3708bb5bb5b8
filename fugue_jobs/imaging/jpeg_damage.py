"""Finds a JPEG's damage by its Huffman codes: where they are invalid, end early, or do not end with the bits.

A changed bit shows late: the decoder continues out of step until a code does not fit. So only proven parts
count as whole: rows above a cut, and restart intervals that end at their marker.
"""

from __future__ import annotations

from typing import NamedTuple

from fugue_jobs.imaging.damage import ZEROS, Damage, all_damaged
from fugue_jobs.imaging.headers import first_scan, scans_are_complete
from fugue_jobs.imaging.jpeg_scan import Entropy, Scan, Walked, entropy, read_scan, scan_damage, walk

_EOI = 0xD9
_END = b"\xff\xd9"
_REACH = 4
_SOMEWHERE = "the photo is damaged at an unknown place"


def is_suspect(data: bytes) -> bool:
    """Return whether damage shows without a walk: no end marker, or a long run of zeros."""
    begin = first_scan(data)
    end = data.rfind(_END)
    return end < begin or data.find(bytes(ZEROS), begin, end) >= 0


def judge_jpeg(data: bytes, height: int, wanted: int) -> Damage | None:
    """Return the damage of this JPEG, ``height`` px high; None when there is none.

    ``wanted``: the rows from the top that have crops. Rows below are checked only when damage shows.
    """
    scan = read_scan(data)
    if scan is None:
        return _judge_unwalked(data, height)
    found = entropy(data, scan)
    looks_whole = found.marker == _EOI and found.in_turn and all(bytes(ZEROS) not in piece for piece in found.pieces)
    rows = min(scan.rows, -(-wanted // scan.mcu_height)) if looks_whole else scan.rows
    pieces = _judge_pieces(scan, found, rows)
    whole = data[: found.end] + _END
    if pieces is None:
        return all_damaged(height, whole, _SOMEWHERE)
    if not pieces.damaged:
        return Damage((), whole, "") if pieces.odd_end else None
    damaged = tuple(_in_pixels(scan, first, end, height) for first, end in pieces.damaged)
    reach = _REACH if scan.shares_chroma else 0
    if damaged[0][0] == 0 and damaged[0][1] >= height:
        return all_damaged(height, whole, _SOMEWHERE)
    return Damage(damaged, whole, f"the photo is damaged from row {damaged[0][0]} on", reach)


class _Pieces(NamedTuple):
    """Ranges of damaged MCUs; ``odd_end``: the end is not as it must be."""

    damaged: list[tuple[int, int]]
    odd_end: bool


def _in_pixels(scan: Scan, first: int, end: int, height: int) -> tuple[int, int]:
    return first // scan.columns * scan.mcu_height, min(height, -(-end // scan.columns) * scan.mcu_height)


def _judge_pieces(scan: Scan, found: Entropy, rows: int) -> _Pieces | None:
    """Check each piece separately, down to this row of MCUs. None: the walk would take too long."""
    every, wanted = scan.columns * scan.rows, scan.columns * rows
    interval = scan.interval or every
    damaged: list[tuple[int, int]] = []
    odd_end = found.marker != _EOI
    for number, piece in enumerate(found.pieces):
        first = number * interval
        if first >= wanted:
            break
        count = min(interval, every - first)
        walked = walk(piece, scan.tables, min(count, wanted - first))
        if walked is None:
            return None
        ends_well = _ends_well(walked, piece) or (walked.ended == "whole" and wanted < first + count)
        if ends_well and _lost_from(scan, piece) is None:
            continue
        last = number == len(found.pieces) - 1
        whole = _whole_mcus(scan, found, piece, walked, first, count) if last else 0
        if whole is None:
            return None
        odd_end = True
        if whole < count:
            damaged.append((first + whole, first + count))
    begun = len(found.pieces) * interval
    if begun < every and begun < wanted:
        damaged.append((begun, every))
    return _Pieces(_joined(damaged), odd_end)


def _lost_from(scan: Scan, piece: bytes) -> int | None:
    """Return where zeros replace data; None where zeros are valid codes of blank blocks by these tables."""
    if all(ac[1][:1] == b"\0" for _, ac in scan.tables):
        return None
    found = piece.find(bytes(ZEROS))
    return None if found < 0 else found


def _ends_well(walked: Walked, piece: bytes) -> bool:
    """Return whether all MCUs are there, with only some bits of the last byte left."""
    return walked.ended == "whole" and (walked.bit + 7) // 8 == len(piece)


def _whole_mcus(scan: Scan, found: Entropy, piece: bytes, walked: Walked, first: int, count: int) -> int | None:
    """Return how many MCUs of the last piece, which ends wrongly, are certainly whole."""
    filled, end, lost = len(piece.rstrip(b"\0")), (walked.bit + 7) // 8, _lost_from(scan, piece)
    if walked.ended == "whole" and filled <= end <= filled + 1 and (lost is None or end <= lost + 1):
        return count  # all are there; the rest is padding
    zeros = piece.find(bytes(ZEROS))
    if filled < len(piece) or zeros >= 0:
        # Data after the zeros is lost, whatever the walk read there.
        cut = walk(piece[: filled if zeros < 0 else min(zeros, filled)], scan.tables, count)
        if cut is None:
            return None
        return _before_cut(scan, cut, first) if cut.ended != "whole" else 0
    if walked.ended == "whole":
        return 0  # bits are left over: the walk went out of step somewhere
    if walked.ended == "bad" or found.marker not in (_EOI, None):
        return _a_row_less(scan, walked.mcus, first)
    missing = count - walked.mcus
    # A changed bit may shift the end by some blocks: less than a row of MCUs is no cut.
    return walked.mcus if found.marker is None or missing >= scan.columns else 0


def _before_cut(scan: Scan, walked: Walked, first: int) -> int:
    return walked.mcus if walked.ended == "short" else _a_row_less(scan, walked.mcus, first)


def _a_row_less(scan: Scan, mcus: int, first: int) -> int:
    """Return the whole MCUs before an invalid code, less a row: the damage is some blocks before the code."""
    number = first + mcus
    return max(0, number - number % scan.columns - scan.columns - first)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, end in ranges:
        first = max(0, first)
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((first, end))
    return found


def _judge_unwalked(data: bytes, height: int) -> Damage | None:
    """Check a JPEG of several scans: damage in one of them is damage of the whole picture."""
    if not scans_are_complete(data):
        return all_damaged(height, data, "scans of the photo are missing: the whole photo is blurred")
    has_end = data.rfind(_END) >= first_scan(data)
    ended = data if has_end else data + _END
    damaged = scan_damage(ended)
    if damaged or (damaged is None and not has_end):
        return all_damaged(height, ended, _SOMEWHERE)
    return None if has_end else Damage((), ended, "")

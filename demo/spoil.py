"""Breaks bytes and rows for a fault. Pure functions: inputs are copied, never changed."""

import copy
import zlib
from collections.abc import Callable
from typing import Any

from demo.faults import Fault

# A row of the listing, as JSON.
Row = dict[str, Any]

PRIVATE_URL = "http://169.254.169.254/latest/meta-data/"
_START_OF_SCAN = b"\xff\xda"
_BOMB_BYTES = 24 * 1024 * 1024


def flipped(jpeg: bytes) -> bytes:
    """Return the JPEG with 24 bits flipped in its scan. Markers stay whole, so most decoders report nothing."""
    start = jpeg.rindex(_START_OF_SCAN) + 16
    spoilt = bytearray(jpeg)
    for step in range(1, 25):
        at = start + (len(jpeg) - start - 16) * step // 26
        while 0xFF in (spoilt[at - 1], spoilt[at], spoilt[at] ^ 0x10):
            at += 1
        spoilt[at] ^= 0x10
    return bytes(spoilt)


def beheaded(jpeg: bytes) -> bytes:
    """Return the JPEG with zeros for its first KiB: its format cannot be recognised."""
    return bytes(min(1024, len(jpeg))) + jpeg[1024:]


def gzip_bomb() -> bytes:
    """Return 24 KiB of gzip that unpack to 24 MiB of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(bytes(_BOMB_BYTES)) + packer.flush()


def spoilt_rows(row: Row, fault: Fault) -> list[Row | str]:
    """Return what the listing has instead of a good row."""
    if fault is Fault.ROW_DUPLICATE:
        return [row, row]
    if fault is Fault.ROW_NOT_AN_OBJECT:
        return ["internal error: row could not be serialised"]
    spoilt = copy.deepcopy(row)
    _SPOILERS[fault](spoilt)
    return [spoilt]


def _without_id(row: Row) -> None:
    del row["id"]


def _text_coordinate(row: Row) -> None:
    row["boxes"][0]["xmin"] = "left"


def _nan_coordinate(row: Row) -> None:
    row["boxes"][0]["xmin"] = float("nan")


def _infinite_coordinate(row: Row) -> None:
    row["boxes"][0]["xmin"] = float("inf")


def _null_boxes(row: Row) -> None:
    row["boxes"] = None


def _inverted_box(row: Row) -> None:
    box = row["boxes"][0]
    box["xmin"], box["xmax"] = box["xmax"], box["xmin"]


def _box_outside(row: Row) -> None:
    row["boxes"][0]["xmax"] = 57.0


def _repeated_box_id(row: Row) -> None:
    row["boxes"][1]["id"] = row["boxes"][0]["id"]


def _bad_timestamp(row: Row) -> None:
    row["updated_at"] = "yesterday"


def _negative_bytes(row: Row) -> None:
    row["bytes"] = -1


def _file_url(row: Row) -> None:
    row["url"] = "file:///etc/hostname"


def _private_url(row: Row) -> None:
    row["url"] = PRIVATE_URL + row["id"]


_SPOILERS: dict[Fault, Callable[[Row], None]] = {
    Fault.ROW_WITHOUT_ID: _without_id,
    Fault.ROW_TEXT_COORDINATE: _text_coordinate,
    Fault.ROW_NAN_COORDINATE: _nan_coordinate,
    Fault.ROW_INFINITE_COORDINATE: _infinite_coordinate,
    Fault.ROW_NULL_BOXES: _null_boxes,
    Fault.ROW_INVERTED_BOX: _inverted_box,
    Fault.ROW_BOX_OUTSIDE: _box_outside,
    Fault.ROW_REPEATED_BOX_ID: _repeated_box_id,
    Fault.ROW_BAD_TIMESTAMP: _bad_timestamp,
    Fault.ROW_NEGATIVE_BYTES: _negative_bytes,
    Fault.ROW_FILE_URL: _file_url,
    Fault.ROW_PRIVATE_URL: _private_url,
}

"""Deletion vectors: the positions of a data file's dead rows, as the Delta protocol writes them into the log.

A vector is a set of row numbers in Roaring's portable format, in an array of one bitmap per 2^32 rows, and Z85 text.
delta-rs reads vectors but cannot write them. Vectors in files of their own, as Spark writes them, are not read here.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from cropline.core.errors import CatalogueError

Positions = npt.NDArray[np.uint32]
"""Row numbers of one file, from 0, ascending, each once."""

_MAGIC = 1681511377
_PLAIN, _WITH_RUNS = 12346, 12347  # Roaring's cookies
_SPARSE = 4096  # a container of at most this many values lists them; others are a bitmap of 65,536 bits
_OFFSETS_FROM = 4  # containers with runs have offsets only from this number on
_DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_TEXT = np.frombuffer(_DIGITS, np.uint8)
_VALUES = np.full(256, 255, np.uint8)
_VALUES[_TEXT] = np.arange(85, dtype=np.uint8)


def none() -> Positions:
    """Return no positions."""
    return np.empty(0, np.uint32)


def descriptor(dead: Positions) -> dict[str, Any]:
    """Return the action's deletionVector that holds these positions."""
    data = _roaring_array(dead)
    return {
        "storageType": "i",
        "pathOrInlineDv": _z85(data),
        "sizeInBytes": len(data),
        "cardinality": len(dead),
    }


def is_inline(vector: dict[str, Any]) -> bool:
    """Return whether the action itself holds the vector."""
    return bool(vector["storageType"] == "i")


def positions(vector: dict[str, Any]) -> Positions:
    """Return the positions of an inline deletionVector. Raise CatalogueError when it is damaged."""
    try:
        dead = _positions(_unz85(vector["pathOrInlineDv"])[: vector["sizeInBytes"]])
    except (struct.error, ValueError, IndexError) as error:
        raise CatalogueError(f"a deletion vector in the catalogue's log is damaged: {error}") from error
    if len(dead) != vector["cardinality"]:
        raise CatalogueError(
            f"a deletion vector in the catalogue's log names {len(dead)} rows instead of {vector['cardinality']}"
        )
    return dead


def _roaring_array(dead: Positions) -> bytes:
    return struct.pack("<IQI", _MAGIC, 1, 0) + _roaring(dead)


def _roaring(dead: Positions) -> bytes:
    high = (dead >> 16).astype(np.uint16)
    keys, starts = np.unique(high, return_index=True)
    parts = np.split((dead & 0xFFFF).astype("<u2"), starts[1:]) if len(keys) else []
    bodies = [part.tobytes() if len(part) <= _SPARSE else _bitmap(part) for part in parts]
    head = struct.pack("<II", _PLAIN, len(keys))
    head += b"".join(struct.pack("<HH", key, len(part) - 1) for key, part in zip(keys, parts, strict=True))
    offset = len(head) + 4 * len(keys)
    for body in bodies:
        head += struct.pack("<I", offset)
        offset += len(body)
    return head + b"".join(bodies)


def _bitmap(values: npt.NDArray[np.uint16]) -> bytes:
    bits = np.zeros(1 << 16, np.bool_)
    bits[values] = True
    return np.packbits(bits, bitorder="little").tobytes()


def _positions(data: bytes) -> Positions:
    magic, count = struct.unpack_from("<IQ", data)
    if magic != _MAGIC:
        raise ValueError(f"unknown format {magic}")
    if count > 1:
        raise ValueError("a file with more than 2^32 rows")
    if count == 0:
        return none()
    (key,) = struct.unpack_from("<I", data, 12)
    if key != 0:
        raise ValueError("a file with more than 2^32 rows")
    return _containers(data[16:])


def _containers(data: bytes) -> Positions:
    (cookie,) = struct.unpack_from("<I", data)
    if cookie & 0xFFFF == _WITH_RUNS:
        count, at = (cookie >> 16) + 1, 4
        runs = np.unpackbits(np.frombuffer(data, np.uint8, (count + 7) // 8, at), bitorder="little")[:count]
        at += (count + 7) // 8
        has_offsets = count >= _OFFSETS_FROM
    elif cookie == _PLAIN:
        (count,), at = struct.unpack_from("<I", data, 4), 8
        runs, has_offsets = np.zeros(count, np.uint8), True
    else:
        raise ValueError(f"unknown cookie {cookie}")
    head = np.frombuffer(data, "<u2", 2 * count, at).reshape(count, 2)
    at += 4 * count * (2 if has_offsets else 1)
    found = []
    for (key, last), run in zip(head.tolist(), runs, strict=True):
        low, at = _container(data, at, last + 1, bool(run))
        found.append(low.astype(np.uint32) | np.uint32(key << 16))
    return np.concatenate(found) if found else none()


def _container(data: bytes, at: int, size: int, run: bool) -> tuple[npt.NDArray[np.integer[Any]], int]:
    """Return the values of the container at this offset, and the offset after it."""
    if run:
        (count,) = struct.unpack_from("<H", data, at)
        pairs = np.frombuffer(data, "<u2", 2 * count, at + 2).reshape(count, 2).tolist()
        values = [np.arange(start, start + length + 1, dtype=np.uint32) for start, length in pairs]
        return np.concatenate([none(), *values]), at + 2 + 4 * count
    if size <= _SPARSE:
        return np.frombuffer(data, "<u2", size, at), at + 2 * size
    bits = np.unpackbits(np.frombuffer(data, np.uint8, 8192, at), bitorder="little")
    return np.flatnonzero(bits), at + 8192


def _z85(data: bytes) -> str:
    words = np.frombuffer(data + b"\0" * (-len(data) % 4), ">u4").astype(np.uint32)
    digits = np.empty((len(words), 5), np.uint8)
    for place in range(4, -1, -1):
        words, rest = np.divmod(words, np.uint32(85))
        digits[:, place] = rest
    return _TEXT[digits].tobytes().decode("ascii")


def _unz85(text: str) -> bytes:
    values = _VALUES[np.frombuffer(text.encode("ascii"), np.uint8)].reshape(-1, 5).astype(np.uint64)
    if (values == 255).any():
        raise ValueError("not Z85")
    words = np.zeros(len(values), np.uint64)
    for place in range(5):
        words = words * np.uint64(85) + values[:, place]
    return words.astype(">u4").tobytes()
